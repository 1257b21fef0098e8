package oidcop

import (
	"errors"
	"html/template"
	"net/http"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

// judge asks auth about what a person showed: a sign-in, or the page for what is
// still missing, or why not.
func (p *Provider) judge(r *http.Request, in pending) (auth.Granted, *signInView, error) {
	got, err := p.auth.SignIn(r.Context(), auth.SignInRequest{
		Tenant: in.Tenant, Username: in.Username, Password: in.Password, TOTP: in.TOTP, NewPassword: in.NewPassword,
		Device: deviceName(r), Addr: remoteAddr(r),
	})
	p.auditSignIn(r, in, got, err)
	var c *auth.Challenge
	var e *im.Error
	switch {
	case errors.As(err, &c):
		view := &signInView{Step: c.Next}
		if c.Setup != nil {
			view.Step, view.Secret, view.QR = auth.ChallengeTOTPSetup, c.Setup.Secret, template.URL(qrPicture(c.Setup.URI))
		}
		return auth.Granted{}, view, nil
	case errors.As(err, &e) && e.Kind == im.Unauthenticated && e.Field == auth.ChallengeTOTP:
		return auth.Granted{}, &signInView{Step: auth.ChallengeTOTP, Problem: textWrongTOTP}, nil
	case errors.As(err, &e) && e.Kind == im.Invalid && in.NewPassword != "":
		return auth.Granted{}, &signInView{Step: auth.ChallengeNewPassword, Problem: e.Message}, nil
	}
	return got, nil, err
}

// auditSignIn tells who signed in on the page, or whom somebody tried to be: never
// the name that was typed, which may be a password in the wrong field. A page that
// asks for one thing more is no attempt yet.
func (p *Provider) auditSignIn(r *http.Request, in pending, got auth.Granted, err error) {
	if errors.As(err, new(*auth.Challenge)) {
		return
	}
	e := auth.Event{Action: "session.create", Addr: remoteAddr(r), Err: err, Detail: map[string]string{"with": "password", "on": "page"}}
	if err == nil {
		e.User, e.ByUser = got.User.ID, true
	} else if u, ok := p.users.ByUsername(in.Tenant, in.Username); ok {
		e.User = u.ID
	}
	p.audit(r.Context(), in.Tenant, e)
}
