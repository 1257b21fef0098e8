package oidcop

import (
	"net/http"

	"github.com/pipit-im/pipit/pkg/auth"
)

// judge asks auth about what a person showed: a token, or the page for what is
// still missing, or why not.
func (p *Provider) judge(r *http.Request, in pending, newPassword string) (token string, more *signInView, err error) {
	token, _, _, err = p.auth.SignIn(r.Context(), auth.SignInRequest{
		Tenant: in.Tenant, Username: in.Username, Password: in.Password,
		Device: deviceName(r), Addr: remoteAddr(r),
	})
	return token, nil, err
}
