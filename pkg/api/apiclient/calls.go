package apiclient

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// Status returns the state of the server and of the box.
func (c *Client) Status(ctx context.Context) (ServerInfo, error) {
	var out ServerInfo
	return out, c.Do(ctx, http.MethodGet, "/admin/status", nil, &out)
}

// SetupCode returns the one-time code with which a browser sets the box up.
// Once there is somebody who can sign in: im.NotFound.
func (c *Client) SetupCode(ctx context.Context) (string, error) {
	var out SetupCode
	return out.Code, c.Do(ctx, http.MethodGet, "/admin/setup-code", nil, &out)
}

// Tenants lists all tenants.
func (c *Client) Tenants(ctx context.Context) ([]TenantInfo, error) {
	var out TenantList
	err := c.Do(ctx, http.MethodGet, "/admin/tenants", nil, &out)
	return out.Tenants, err
}

// AddTenant adds a tenant; an empty name means the id.
func (c *Client) AddTenant(ctx context.Context, id, name string) (TenantInfo, error) {
	var out TenantInfo
	return out, c.Do(ctx, http.MethodPost, "/admin/tenants", NewTenant{ID: id, Name: name}, &out)
}

// UpdateTenant renames, suspends or resumes a tenant.
func (c *Client) UpdateTenant(ctx context.Context, id string, p TenantPatch) (TenantInfo, error) {
	var out TenantInfo
	return out, c.Do(ctx, http.MethodPatch, Path("admin", "tenants", id), p, &out)
}

// Users calls fn with each user of a tenant, page by page, until it returns an
// error.
func (c *Client) Users(ctx context.Context, tenant string, fn func(Person) error) error {
	q := url.Values{"limit": {strconv.Itoa(500)}}
	for {
		var page People
		if err := c.Do(ctx, http.MethodGet, Path("admin", "tenants", tenant, "users")+"?"+q.Encode(), nil, &page); err != nil {
			return err
		}
		for _, p := range page.Users {
			if err := fn(p); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		q.Set("cursor", page.Next)
	}
}

// AddUser adds a user to a tenant.
func (c *Client) AddUser(ctx context.Context, tenant string, p NewPerson) (Person, error) {
	var out Person
	return out, c.Do(ctx, http.MethodPost, Path("admin", "tenants", tenant, "users"), p, &out)
}

// AddUsers adds at most 1000 users without passwords, and with tokens signs
// each in.
func (c *Client) AddUsers(ctx context.Context, tenant string, in BulkPeople) ([]BulkPerson, error) {
	var out BulkAnswer
	err := c.Do(ctx, http.MethodPost, Path("admin", "tenants", tenant, "users-bulk"), in, &out)
	return out.Users, err
}

// UpdateUser changes a user's name or role, disables or enables.
func (c *Client) UpdateUser(ctx context.Context, tenant, username string, p PersonChange) (Person, error) {
	var out Person
	return out, c.Do(ctx, http.MethodPatch, Path("admin", "tenants", tenant, "users", username), p, &out)
}

// SetPassword sets a user's password and ends the user's sign-ins.
func (c *Client) SetPassword(ctx context.Context, tenant, username, password string) error {
	return c.Do(ctx, http.MethodPut, Path("admin", "tenants", tenant, "users", username, "password"), NewPassword{Password: password}, nil)
}

// SetTemporaryPassword is SetPassword with one that has to be replaced at the
// next sign-in.
func (c *Client) SetTemporaryPassword(ctx context.Context, tenant, username, password string) error {
	return c.Do(ctx, http.MethodPut, Path("admin", "tenants", tenant, "users", username, "password"), NewPassword{Password: password, Temporary: true}, nil)
}

// IssueToken signs a user in without a password.
func (c *Client) IssueToken(ctx context.Context, tenant, username string) (IssuedToken, error) {
	var out IssuedToken
	return out, c.Do(ctx, http.MethodPost, Path("admin", "tenants", tenant, "users", username, "tokens"), nil, &out)
}

// RevokeToken ends the sign-in that owns the token.
func (c *Client) RevokeToken(ctx context.Context, token string) error {
	return c.Do(ctx, http.MethodPost, "/admin/sign-out", SignOut{Token: token}, nil)
}

// Backup writes a consistent snapshot of the whole store to w.
func (c *Client) Backup(ctx context.Context, w io.Writer) (int64, error) {
	return c.Stream(ctx, http.MethodPost, "/admin/backup", w)
}

// Verify reads and checks every record of the running store.
func (c *Client) Verify(ctx context.Context) (VerifyReport, error) {
	var out VerifyReport
	return out, c.Do(ctx, http.MethodPost, "/admin/verify", nil, &out)
}

// Tenant returns a tenant with its settings, quota and usage.
func (c *Client) Tenant(ctx context.Context, id string) (TenantDetail, error) {
	var out TenantDetail
	return out, c.Do(ctx, http.MethodGet, Path("admin", "tenants", id), nil, &out)
}

// DeleteTenant shuts a tenant and has it erased after a week, or at once.
func (c *Client) DeleteTenant(ctx context.Context, id string, now bool) (TenantInfo, error) {
	var out TenantInfo
	return out, c.Do(ctx, http.MethodDelete, Path("admin", "tenants", id)+"?now="+strconv.FormatBool(now), nil, &out)
}

// UndeleteTenant brings a deleted tenant back.
func (c *Client) UndeleteTenant(ctx context.Context, id string) (TenantInfo, error) {
	var out TenantInfo
	return out, c.Do(ctx, http.MethodPost, Path("admin", "tenants", id, "undelete"), nil, &out)
}

// SetTenant changes host names, quota and settings of a tenant.
func (c *Client) SetTenant(ctx context.Context, id string, s BoxSettings) (TenantDetail, error) {
	var out TenantDetail
	return out, c.Do(ctx, http.MethodPatch, Path("admin", "tenants", id, "settings"), s, &out)
}

// ExportTenant writes a tenant as an archive to w.
func (c *Client) ExportTenant(ctx context.Context, id string, credentials bool, w io.Writer) (int64, error) {
	return c.Stream(ctx, http.MethodPost, Path("admin", "tenants", id, "export")+"?credentials="+strconv.FormatBool(credentials), w)
}

// ImportTenant makes a tenant of an archive.
func (c *Client) ImportTenant(ctx context.Context, r io.Reader) (TenantInfo, error) {
	var out TenantInfo
	return out, c.Send(ctx, http.MethodPost, "/admin/tenants-import", r, &out)
}

// Invite makes an invitation, whose code is shown this once.
func (c *Client) Invite(ctx context.Context, tenant string, in NewInvitation) (MadeInvitation, error) {
	var out MadeInvitation
	return out, c.Do(ctx, http.MethodPost, Path("admin", "tenants", tenant, "invitations"), in, &out)
}

// SignOutUser ends all sign-ins of a user.
func (c *Client) SignOutUser(ctx context.Context, tenant, username string) error {
	return c.Do(ctx, http.MethodDelete, Path("admin", "tenants", tenant, "users", username, "sessions"), nil, nil)
}

// ResetSecondFactor takes TOTP and passkeys away from a user.
func (c *Client) ResetSecondFactor(ctx context.Context, tenant, username string) error {
	return c.Do(ctx, http.MethodDelete, Path("admin", "tenants", tenant, "users", username, "second-factor"), nil, nil)
}

// APITokens lists the API tokens of a tenant.
func (c *Client) APITokens(ctx context.Context, tenant string) ([]APIToken, error) {
	var out APITokenList
	err := c.Do(ctx, http.MethodGet, Path("admin", "tenants", tenant, "tokens"), nil, &out)
	return out.Tokens, err
}

// MakeAPIToken makes an API token for the user of that name; it is shown this
// once.
func (c *Client) MakeAPIToken(ctx context.Context, tenant string, in NewAPIToken) (MadeAPIToken, error) {
	var out MadeAPIToken
	return out, c.Do(ctx, http.MethodPost, Path("admin", "tenants", tenant, "tokens"), in, &out)
}

// RevokeAPIToken ends an API token.
func (c *Client) RevokeAPIToken(ctx context.Context, tenant, id string) error {
	return c.Do(ctx, http.MethodDelete, Path("admin", "tenants", tenant, "tokens", id), nil, nil)
}

// Audit returns a page of the audit log of a tenant, or of the box for an empty
// one; the names in q are those of GET /admin/audit.
func (c *Client) Audit(ctx context.Context, tenant string, q url.Values) (AuditPage, error) {
	var out AuditPage
	q.Set("tenant", tenant)
	return out, c.Do(ctx, http.MethodGet, "/admin/audit?"+q.Encode(), nil, &out)
}

// ExportAudit writes the audit log of a tenant, or of the box, to w.
func (c *Client) ExportAudit(ctx context.Context, tenant string, q url.Values, w io.Writer) (int64, error) {
	q.Set("tenant", tenant)
	return c.Stream(ctx, http.MethodGet, "/admin/audit/export?"+q.Encode(), w)
}
