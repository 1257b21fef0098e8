package apiclient

import (
	"context"
	"net/http"
)

// OIDCClient is a program that signs people in through the box.
type OIDCClient struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Kind         string   `json:"kind" enum:"web,browser,native,device"`
	RedirectURIs []string `json:"redirect_uris"`
	LogoutURIs   []string `json:"logout_uris"`
	Scopes       []string `json:"scopes"`
	Alg          string   `json:"alg" enum:"ES256,RS256"`
	Trusted      bool     `json:"trusted"`
	Introspect   bool     `json:"introspect"`
	Created      int64    `json:"created" doc:"UTC milliseconds."`
	Secret       string   `json:"secret,omitempty" doc:"Of kind web, when it was just added; it can't be shown again."`
}

// NewOIDCClient asks for a client.
type NewOIDCClient struct {
	_            struct{} `additionalProperties:"true"`
	ID           string   `json:"id,omitempty" maxLength:"200" doc:"[a-z0-9_-]{1,40}; drawn if absent."`
	Name         string   `json:"name" maxLength:"500" doc:"People see it when they are asked whether they agree."`
	Kind         string   `json:"kind" maxLength:"20" doc:"web: on a server, keeps a secret. browser: a page. native: on a person's device. device: no browser."`
	RedirectURIs []string `json:"redirect_uris,omitempty" doc:"Whole addresses; matched letter by letter."`
	LogoutURIs   []string `json:"logout_uris,omitempty"`
	Scopes       []string `json:"scopes,omitempty" doc:"Of openid, profile, email, offline_access, chat, admin; the first three if absent."`
	Alg          string   `json:"alg,omitempty" maxLength:"10" doc:"ES256, or RS256 for programs that know nothing else."`
	Trusted      bool     `json:"trusted,omitempty" doc:"The organisation's own: people are not asked."`
	Introspect   bool     `json:"introspect,omitempty" doc:"It may ask about tokens of other clients."`
}

// OIDCClientList is all clients of a tenant.
type OIDCClientList struct {
	Clients []OIDCClient `json:"clients"`
}

// OIDCProvider is a provider of the customer's that people sign in through.
type OIDCProvider struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Issuer     string            `json:"issuer"`
	ClientID   string            `json:"client_id"`
	Secret     bool              `json:"secret" doc:"One is kept."`
	Scopes     []string          `json:"scopes"`
	Domains    []string          `json:"domains"`
	Create     bool              `json:"create"`
	Link       string            `json:"link"`
	Username   string            `json:"username"`
	Role       string            `json:"role"`
	RoleClaim  string            `json:"role_claim"`
	Roles      map[string]string `json:"roles"`
	ClassClaim string            `json:"class_claim"`
	Classes    map[string]string `json:"classes"`
	Created    int64             `json:"created" doc:"UTC milliseconds."`
	Callback   string            `json:"callback" doc:"The path to register at the provider, behind scheme and host of this server."`
}

// PutOIDCProvider adds a provider or replaces it.
type PutOIDCProvider struct {
	_            struct{}          `additionalProperties:"true"`
	Name         string            `json:"name" maxLength:"500" doc:"On its button."`
	Issuer       string            `json:"issuer" maxLength:"1000" doc:"An https address."`
	ClientID     string            `json:"client_id" maxLength:"500"`
	ClientSecret string            `json:"client_secret,omitempty" maxLength:"2000" doc:"Absent: the one that is kept stays."`
	Scopes       []string          `json:"scopes,omitempty" doc:"Beside openid; profile and email if absent."`
	Domains      []string          `json:"domains,omitempty" doc:"E-mail domains from which rules let people in; the address must be verified."`
	Create       bool              `json:"create,omitempty" doc:"People whom nobody knows yet get an account."`
	Link         string            `json:"link,omitempty" maxLength:"100" doc:"email: a verified address in domains, before its @, is the user name; or a claim that the provider guarantees to be it. Absent: people link themselves. Owners and admins always do."`
	Username     string            `json:"username,omitempty" maxLength:"100" doc:"The claim that new user names are made of."`
	Role         string            `json:"role,omitempty" maxLength:"20" doc:"Of new accounts; member if absent."`
	RoleClaim    string            `json:"role_claim,omitempty" maxLength:"100"`
	Roles        map[string]string `json:"roles,omitempty" doc:"Value of role_claim to role."`
	ClassClaim   string            `json:"class_claim,omitempty" maxLength:"100"`
	Classes      map[string]string `json:"classes,omitempty" doc:"Value of class_claim to class; other values count for nothing if there is any."`
}

// OIDCProviderList is all providers of a tenant.
type OIDCProviderList struct {
	Providers []OIDCProvider `json:"providers"`
}

func oidcPath(tenant string, more ...string) string {
	return Path(append([]string{"admin", "tenants", tenant, "oidc"}, more...)...)
}

// OIDCClients lists the clients of a tenant.
func (c *Client) OIDCClients(ctx context.Context, tenant string) ([]OIDCClient, error) {
	var out OIDCClientList
	err := c.Do(ctx, http.MethodGet, oidcPath(tenant, "clients"), nil, &out)
	return out.Clients, err
}

// AddOIDCClient adds a client; the answer has its secret, this once.
func (c *Client) AddOIDCClient(ctx context.Context, tenant string, in NewOIDCClient) (OIDCClient, error) {
	var out OIDCClient
	return out, c.Do(ctx, http.MethodPost, oidcPath(tenant, "clients"), in, &out)
}

// RemoveOIDCClient removes a client and ends its tokens.
func (c *Client) RemoveOIDCClient(ctx context.Context, tenant, id string) error {
	return c.Do(ctx, http.MethodDelete, oidcPath(tenant, "clients", id), nil, nil)
}

// OIDCProviders lists the external providers of a tenant.
func (c *Client) OIDCProviders(ctx context.Context, tenant string) ([]OIDCProvider, error) {
	var out OIDCProviderList
	err := c.Do(ctx, http.MethodGet, oidcPath(tenant, "providers"), nil, &out)
	return out.Providers, err
}

// PutOIDCProvider adds or replaces an external provider.
func (c *Client) PutOIDCProvider(ctx context.Context, tenant, id string, in PutOIDCProvider) (OIDCProvider, error) {
	var out OIDCProvider
	return out, c.Do(ctx, http.MethodPut, oidcPath(tenant, "providers", id), in, &out)
}

// RemoveOIDCProvider removes an external provider and its links; accounts stay.
func (c *Client) RemoveOIDCProvider(ctx context.Context, tenant, id string) error {
	return c.Do(ctx, http.MethodDelete, oidcPath(tenant, "providers", id), nil, nil)
}

// SignInWays is what a sign-in page offers besides the password.
type SignInWays struct {
	Tenant    Tenant           `json:"tenant"`
	Providers []SignInProvider `json:"providers" nullable:"false"`
}

// SignInProvider is a provider as a sign-in page shows it.
type SignInProvider struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Path string `json:"path" doc:"Where the browser goes to sign in through it; /logout behind it signs out there."`
	Down bool   `json:"down,omitempty" doc:"It did not answer lately."`
	Last bool   `json:"last,omitempty" doc:"This browser signed in through it last."`
}

// LinkedProviders are the providers of the organisation, for one person.
type LinkedProviders struct {
	Providers []LinkedProvider `json:"providers" nullable:"false"`
}

// LinkedProvider says whether one's own account is linked with a provider.
type LinkedProvider struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Path    string `json:"path" doc:"A POST of a page of this server links; with Accept: application/json the answer has location, where the browser goes then."`
	Linked  bool   `json:"linked"`
	By      string `json:"by,omitempty" enum:"self,rule,new" doc:"Who linked it: the person, an administrator's rule, or the rule that made the account."`
	Created int64  `json:"created,omitempty" doc:"UTC milliseconds."`
}

// ProgramList is the programs that may act in somebody's name.
type ProgramList struct {
	Programs []Program `json:"programs" nullable:"false"`
}

// Program is one that a person let act in their name.
type Program struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Scopes  []string `json:"scopes" nullable:"false" doc:"What it may do."`
	Since   int64    `json:"since" doc:"UTC milliseconds."`
	SignIns int      `json:"sign_ins" doc:"How many of its sign-ins last."`
}
