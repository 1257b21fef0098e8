package oidcrp

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Provider is an OpenID provider of the customer's, and the rules for its people.
type Provider struct {
	ID           string   `json:"id"`   // [a-z0-9_-]{1,40}, part of its redirect address
	Name         string   `json:"name"` // on its button
	Issuer       string   `json:"issuer"`
	ClientID     string   `json:"client_id"`
	ClientSecret string   `json:"client_secret,omitempty"`
	Scopes       []string `json:"scopes,omitempty"` // beside openid; nil: profile and email
	// Domains are the e-mail domains from which people are let in by a rule, in
	// lower case; the address must be verified. Empty: any, and none is needed.
	Domains []string `json:"domains,omitempty"`
	// Create gives people whom nobody knows yet an account.
	Create bool `json:"create,omitempty"`
	// Link is the administrator's rule for people who have an account already:
	// LinkNever, LinkEmail, or the name of a claim that the provider guarantees to be
	// the user name here.
	Link string `json:"link,omitempty"`
	// Username is the claim that new user names are made of; "": preferred_username,
	// else the e-mail address before its @.
	Username string `json:"username,omitempty"`
	// Role is that of new accounts, "" member. RoleClaim and Roles change it: the
	// first of the claim's values that is in Roles counts.
	Role      string            `json:"role,omitempty"`
	RoleClaim string            `json:"role_claim,omitempty"`
	Roles     map[string]string `json:"roles,omitempty"`
	// ClassClaim names the claim whose values are classes; Classes translates them
	// where it has them, and where it is not empty other values count for nothing.
	ClassClaim string            `json:"class_claim,omitempty"`
	Classes    map[string]string `json:"classes,omitempty"`
	Created    im.Millis         `json:"created"`
}

// The rules of Provider.Link that are no claim.
const (
	LinkNever = ""      // only people themselves link, while they are signed in
	LinkEmail = "email" // a verified address in one of Domains: what stands before the @ is the user name
)

const (
	maxProviders = 20
	maxRules     = 200
)

var providerID = regexp.MustCompile(`^[a-z0-9_-]{1,40}$`)

// Put adds a provider, or replaces the one of that id; an empty ClientSecret keeps
// the one that is there. Nothing is asked of it now. Errors: im.Invalid with a
// field, im.TooLarge, and those of the store.
func (p *RP) Put(ctx context.Context, t im.TenantID, v Provider) (Provider, error) {
	v.Issuer = strings.TrimSuffix(v.Issuer, "/.well-known/openid-configuration")
	if err := check(&v); err != nil {
		return Provider{}, err
	}
	v.Created = im.Millis(p.Box.Now().UnixMilli())
	err := p.Records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		all, err := tx.List(store.RecordProvider, "", "", maxProviders+1)
		if err != nil {
			return err
		}
		old := slices.IndexFunc(all, func(r store.Record) bool { return r.ID == v.ID })
		if old < 0 && len(all) >= maxProviders {
			return im.E(im.TooLarge, "An organisation has at most %d providers.", maxProviders)
		}
		if old >= 0 {
			var was Provider
			if err := json.Unmarshal(all[old].Value, &was); err != nil {
				return err
			}
			v.Created = was.Created
			if v.ClientSecret == "" && v.ClientID == was.ClientID && v.Issuer == was.Issuer {
				v.ClientSecret = was.ClientSecret
			}
			if v.Issuer != was.Issuer {
				// Other people: what was linked is not theirs.
				if err := dropLinks(tx, v.ID); err != nil {
					return err
				}
			}
		}
		value, err := json.Marshal(v)
		if err == nil {
			tx.Put(store.RecordProvider, v.ID, value)
		}
		return err
	})
	if err != nil {
		return Provider{}, im.Wrap("oidcrp: keep a provider of "+string(t), err)
	}
	p.forget(t, v.ID)
	p.Log.Info("provider kept", "tenant", string(t), "provider", v.ID)
	return v, nil
}

// Remove forgets a provider and its links; accounts stay. im.NotFound if there is
// none.
func (p *RP) Remove(ctx context.Context, t im.TenantID, id string) error {
	err := p.Records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		if _, err := tx.Get(store.RecordProvider, id); err != nil {
			return err
		}
		tx.Delete(store.RecordProvider, id)
		return dropLinks(tx, id)
	})
	if im.Is(err, im.NotFound) {
		return im.E(im.NotFound, "There is no such provider.")
	}
	p.forget(t, id)
	return im.Wrap("oidcrp: remove a provider of "+string(t), err)
}

// dropLinks deletes the links of a provider, a thousand at a time.
func dropLinks(tx store.RecordTx, id string) error {
	for {
		page, err := tx.List(store.RecordLink, id+"/", "", store.MaxRecordsPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, r := range page {
			tx.Delete(store.RecordLink, r.ID)
		}
	}
}

// Providers lists the providers of a tenant by id, with their secrets.
func (p *RP) Providers(ctx context.Context, t im.TenantID) ([]Provider, error) {
	all, err := p.Records.ListRecords(ctx, t, store.RecordProvider, "", "", maxProviders+1)
	if err != nil {
		return nil, im.Wrap("oidcrp: list the providers of "+string(t), err)
	}
	out := make([]Provider, len(all))
	for i, r := range all {
		if err := json.Unmarshal(r.Value, &out[i]); err != nil {
			return nil, im.Wrap("oidcrp: read provider "+r.ID+" of "+string(t), err)
		}
	}
	return out, nil
}

// IsDown tells whether a provider did not answer lately.
func (p *RP) IsDown(t im.TenantID, id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.known[providerKey{t, id}]
	return k != nil && k.provider == nil && p.Box.Age()-k.age < downLife
}

func (p *RP) provider(ctx context.Context, t im.TenantID, id string) (Provider, error) {
	var v Provider
	if !providerID.MatchString(id) {
		return v, im.E(im.NotFound, "There is no such provider.")
	}
	value, err := p.Records.Record(ctx, t, store.RecordProvider, id)
	if err == nil {
		err = json.Unmarshal(value, &v)
	}
	return v, err
}

// check says what is wrong with a provider.
func check(v *Provider) error {
	u, err := url.Parse(v.Issuer)
	loopback := err == nil && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback())
	switch {
	case !providerID.MatchString(v.ID):
		return im.E(im.Invalid, "The id of a provider has 1 to 40 characters of a-z, 0-9, _ and -.").OnField("id")
	case v.Name == "" || utf8.RuneCountInString(v.Name) > im.MaxTitleRunes || !utf8.ValidString(v.Name) || strings.ContainsFunc(v.Name, unicode.IsControl):
		return im.E(im.Invalid, "A provider has a name of 1 to %d characters, for its button.", im.MaxTitleRunes).OnField("name")
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || len(v.Issuer) > 1000:
		return im.E(im.Invalid, "The issuer is the provider's address, such as https://login.example.org/realms/school.").OnField("issuer")
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback):
		return im.E(im.Invalid, "The issuer must be an https address: over plain http anybody on the way could sign in as anybody.").OnField("issuer")
	case v.ClientID == "" || len(v.ClientID) > 500 || len(v.ClientSecret) > 2000:
		return im.E(im.Invalid, "Say the client id (and secret) that the provider gave you for this server.").OnField("client_id")
	case v.Link == LinkEmail && len(v.Domains) == 0:
		return im.E(im.Invalid, "Linking by e-mail needs domains: an address elsewhere says nothing about who somebody is here.").OnField("domains")
	case len(v.Scopes)+len(v.Domains)+len(v.Roles)+len(v.Classes) > maxRules:
		return im.E(im.Invalid, "At most %d scopes, domains, roles and classes.", maxRules).OnField("roles")
	}
	for _, d := range v.Domains {
		if d != strings.ToLower(d) || strings.ContainsAny(d, "@ /*") || !strings.Contains(d, ".") {
			return im.E(im.Invalid, "A domain is written like school.example.org, in lower case.").OnField("domains")
		}
	}
	for _, name := range append([]string{v.Role}, mapValues(v.Roles)...) {
		role, ok := im.ParseRole(name)
		if name != "" && (!ok || role == im.RoleOwner) {
			return im.E(im.Invalid, "A provider may give the roles %s.", strings.Join(im.Roles()[1:], ", ")).OnField("role")
		}
	}
	return nil
}

func mapValues(m map[string]string) []string {
	var out []string
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// known is what was learned of a provider, or that it did not answer.
type known struct {
	provider *oidc.Provider // nil: it did not answer
	meta     metadata
	age      time.Duration
}

// metadata is the part of a provider's description that go-oidc leaves to us.
type metadata struct {
	ISS        bool     `json:"authorization_response_iss_parameter_supported"`
	Methods    []string `json:"token_endpoint_auth_methods_supported"`
	Algs       []string `json:"id_token_signing_alg_values_supported"`
	EndSession string   `json:"end_session_endpoint"`
}

var errRedirect = errors.New("the provider answered with a redirect, which is not followed")

// errDown says that a provider can't be asked now.
var errDown = errors.New("oidcrp: provider does not answer")

// ask learns what there is to know about a provider, from memory if it was asked
// within the hour.
func (p *RP) ask(ctx context.Context, t im.TenantID, v *Provider) (*known, error) {
	key := providerKey{t, v.ID}
	age := p.Box.Age()
	p.mu.Lock()
	k := p.known[key]
	p.mu.Unlock()
	if k != nil && k.provider != nil && age-k.age < metaLife {
		return k, nil
	}
	if k != nil && k.provider == nil && age-k.age < downLife {
		return nil, errDown
	}
	k = &known{age: age}
	// The provider keeps the context for its keys: it must outlive this request, and
	// the client's own timeout bounds each look.
	provider, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.http), v.Issuer)
	if err == nil {
		err = provider.Claims(&k.meta)
	}
	if err == nil {
		err = endpointsSafe(v.Issuer, provider.Endpoint())
	}
	if err == nil {
		k.provider = provider
	}
	p.mu.Lock()
	p.known[key] = k
	p.mu.Unlock()
	if err != nil {
		p.Log.Info("provider does not answer", "tenant", string(t), "provider", v.ID, "error", err)
		return nil, errDown
	}
	return k, nil
}

// endpointsSafe refuses a description that sends secrets over plain HTTP.
func endpointsSafe(issuer string, e oauth2.Endpoint) error {
	for _, raw := range []string{e.AuthURL, e.TokenURL} {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || u.Scheme != "https" && strings.HasPrefix(issuer, "https:") {
			return errors.New("an endpoint has no safe address")
		}
	}
	return nil
}

func (p *RP) forget(t im.TenantID, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, providerKey{t, id})
}
