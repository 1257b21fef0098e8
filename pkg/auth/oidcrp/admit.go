package oidcrp

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// link says who somebody of a provider's is here.
type link struct {
	User    im.UserID `json:"user"`
	By      string    `json:"by"` // "self", "rule" or "new"
	Created im.Millis `json:"created"`
}

// linkID is the place of a link. Subjects are hashed because they may be anything.
func linkID(provider, issuer, subject string) string {
	sum := sha256.Sum256([]byte(issuer + "\x00" + subject))
	return provider + "/" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// personOf reads what the rules need from claims. An address that the provider did
// not verify is none.
func personOf(v *Provider, subject string, claims map[string]any) person {
	text := func(name string) string { s, _ := claims[name].(string); return s }
	who := person{Subject: subject, Name: text("name"), claims: claims}
	if ok, _ := claims["email_verified"].(bool); ok {
		who.Email = text("email")
	} else if s := text("email_verified"); s == "true" { // some send a string
		who.Email = text("email")
	}
	local, _, _ := strings.Cut(who.Email, "@")
	switch {
	case v.Username != "":
		who.Username = text(v.Username)
	case text("preferred_username") != "":
		who.Username = text("preferred_username")
	default:
		who.Username = local
	}
	if v.Username == LinkEmail {
		who.Username = local
	}
	if before, _, ok := strings.Cut(who.Username, "@"); ok {
		who.Username = before
	}
	if who.Name == "" {
		who.Name = who.Username
	}
	return who
}

// inDomain tells whether the rules are for this person at all.
func (v *Provider) inDomain(who *person) bool {
	if len(v.Domains) == 0 {
		return true
	}
	at := strings.LastIndexByte(who.Email, '@')
	return at > 0 && slices.Contains(v.Domains, strings.ToLower(who.Email[at+1:]))
}

// admit finds out who a person is here and signs that user in.
func (p *RP) admit(w http.ResponseWriter, r *http.Request, t im.TenantID, v *Provider, f *flow, who person, fail func(string, error)) {
	ctx := r.Context()
	if f.Link != "" {
		// The person who began must be the one who is signed in now.
		if u, ok := p.Pages.SignedIn(r); !ok || u != f.Link {
			fail(Expired, errors.New("somebody else is signed in"))
			return
		}
		if err := p.putLink(ctx, t, v, who.Subject, f.Link, "self"); err != nil {
			if im.Is(err, im.Exists) {
				fail(Taken, err)
			} else {
				fail(Lie, err)
			}
			return
		}
		p.tell(r, t, "provider.link", f.Link, true, nil, "provider", v.ID, "by", "self")
		p.Log.Info("account linked", "tenant", string(t), "user", string(f.Link), "provider", v.ID)
		http.Redirect(w, r, safe(f.Next), http.StatusSeeOther)
		return
	}
	user, err := p.userOf(r, t, v, who)
	if err != nil {
		text := Unknown
		if k := im.KindOf(err); k == im.Internal || k == im.Unavailable {
			p.Log.Error("sign-in through a provider failed", "tenant", string(t), "provider", v.ID, "error", err)
			text = Down
		}
		fail(text, err)
		return
	}
	token, _, err := p.Issue(ctx, t, user, v.Name)
	if err != nil {
		fail(Unknown, err)
		return
	}
	p.tell(r, t, "session.create", user, true, nil, "with", "provider", "provider", v.ID)
	p.Log.Info("signed in through a provider", "tenant", string(t), "user", string(user), "provider", v.ID)
	http.SetCookie(w, &http.Cookie{Name: ViaCookie, Value: v.ID, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil})
	p.Pages.Enter(w, r, token, f.Next)
}

// ViaCookie remembers, for the pages after a sign-out, through which provider this
// browser signed in (Via). Nothing is decided by it.
const ViaCookie = "pipit-via"

// userOf is the one way from a person outside to a user here.
func (p *RP) userOf(r *http.Request, t im.TenantID, v *Provider, who person) (im.UserID, error) {
	ctx := r.Context()
	value, err := p.Records.Record(ctx, t, store.RecordLink, linkID(v.ID, v.Issuer, who.Subject))
	if err == nil {
		var l link
		if err := json.Unmarshal(value, &l); err != nil {
			return "", im.Wrap("oidcrp: read a link of "+string(t), err)
		}
		if _, ok := p.Users.User(t, l.User); ok {
			return l.User, nil
		}
	} else if !im.Is(err, im.NotFound) {
		return "", err
	}
	if !v.inDomain(&who) {
		return "", im.E(im.Forbidden, "no verified address in the allowed domains")
	}
	if name := v.linkName(&who); name != "" {
		if u, ok := p.Users.ByUsername(t, name); ok {
			if u.Role == im.RoleOwner || u.Role == im.RoleAdmin {
				return "", im.E(im.Forbidden, "an administrator's account is linked by its owner only")
			}
			if err := p.putLink(ctx, t, v, who.Subject, u.ID, "rule"); err != nil {
				return "", err
			}
			p.tell(r, t, "provider.link", u.ID, false, nil, "provider", v.ID, "by", "rule")
			return u.ID, nil
		}
	}
	if !v.Create {
		return "", im.E(im.Forbidden, "nobody here is linked with this person")
	}
	id, err := p.Create(ctx, t, Newcomer{Username: strings.ToLower(who.Username), Name: who.Name, Role: v.roleOf(&who), Classes: v.classesOf(&who)})
	if err != nil {
		return "", err
	}
	p.tell(r, t, "user.create", id, false, nil, "provider", v.ID, "by", "rule")
	p.Log.Info("account made by rule", "tenant", string(t), "user", string(id), "provider", v.ID)
	return id, p.putLink(ctx, t, v, who.Subject, id, "new")
}

// tell says to the audit log what happened; detail is in pairs.
func (p *RP) tell(r *http.Request, t im.TenantID, action string, u im.UserID, byUser bool, err error, detail ...string) {
	e := auth.Event{Action: action, User: u, ByUser: byUser, Err: err, Detail: map[string]string{}}
	if ap, aerr := netip.ParseAddrPort(r.RemoteAddr); aerr == nil {
		e.Addr = ap.Addr().Unmap()
	}
	for i := 0; i+1 < len(detail); i += 2 {
		e.Detail[detail[i]] = detail[i+1]
	}
	p.Audit(r.Context(), t, e)
}

// auditRefused tells of a sign-in, or of a link, that came to nothing. What the
// provider said stays out of it: it is anybody's words.
func (p *RP) auditRefused(r *http.Request, t im.TenantID, v *Provider, f *flow, text string) {
	kind := im.Unauthenticated
	switch text {
	case Down, Clock:
		kind = im.Unavailable
	case Unknown:
		kind = im.Forbidden
	case Taken:
		kind = im.Exists
	}
	action := "session.create"
	if f.Link != "" {
		action = "provider.link"
	}
	p.tell(r, t, action, f.Link, f.Link != "", im.E(kind, "%s", text), "with", "provider", "provider", v.ID, "why", text)
}

// linkName is the user name that the administrator's rule takes for proven, "" if
// there is none.
func (v *Provider) linkName(who *person) string {
	switch v.Link {
	case LinkNever:
		return ""
	case LinkEmail:
		local, _, _ := strings.Cut(who.Email, "@")
		return strings.ToLower(local)
	}
	s, _ := who.claims[v.Link].(string)
	return strings.ToLower(s)
}

// putLink keeps a link; im.Exists if that person is linked to somebody else.
func (p *RP) putLink(ctx context.Context, t im.TenantID, v *Provider, subject string, u im.UserID, by string) error {
	id := linkID(v.ID, v.Issuer, subject)
	value, err := json.Marshal(link{User: u, By: by, Created: im.Millis(p.Box.Now().UnixMilli())})
	if err != nil {
		return err
	}
	return p.Records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		if old, err := tx.Get(store.RecordLink, id); err == nil {
			var l link
			if err := json.Unmarshal(old, &l); err != nil {
				return err
			}
			if _, there := p.Users.User(t, l.User); there && l.User != u {
				return im.E(im.Exists, "This account is linked with somebody else already.")
			}
		} else if !im.Is(err, im.NotFound) {
			return err
		}
		tx.Put(store.RecordLink, id, value)
		return nil
	})
}

// roleOf is the role of a new account.
func (v *Provider) roleOf(who *person) im.Role {
	for _, value := range values(who.claims[v.RoleClaim]) {
		if role, ok := im.ParseRole(v.Roles[value]); ok && v.RoleClaim != "" {
			return role
		}
	}
	if role, ok := im.ParseRole(v.Role); ok {
		return role
	}
	return im.RoleMember
}

// classesOf are the classes of a new account.
func (v *Provider) classesOf(who *person) []string {
	if v.ClassClaim == "" {
		return nil
	}
	var out []string
	for _, value := range values(who.claims[v.ClassClaim]) {
		if len(v.Classes) > 0 {
			value = v.Classes[value]
		}
		if value != "" && len(out) < 50 && !slices.Contains(out, value) {
			out = append(out, value)
		}
	}
	return out
}

// values reads a claim that is a text or a list of texts.
func values(claim any) []string {
	switch c := claim.(type) {
	case string:
		return []string{c}
	case []any:
		var out []string
		for _, v := range c {
			if s, ok := v.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// safe keeps a redirect on this server.
func safe(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}
