package oidcrp

import (
	"context"
	"fmt"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/pipit-im/pipit/pkg/im"
)

// Test asks a provider for its description now, as a sign-in does, and says in
// text what is wrong with the answer; "" is well. What was remembered of it is
// asked for anew by the next sign-in. It blocks on the network, for as long as the
// client lets it. Errors: im.NotFound if there is no such provider, and those of
// the store.
func (p *RP) Test(ctx context.Context, t im.TenantID, id string) (text string, err error) {
	v, err := p.provider(ctx, t, id)
	if err != nil {
		return "", err
	}
	p.forget(t, id)
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, p.http), v.Issuer)
	if err != nil {
		p.Log.Info("provider tested", "tenant", string(t), "provider", id, "error", err)
		return fmt.Sprintf("%s does not answer as a provider. Is the address right, to the letter, and can this box reach it?", v.Issuer), nil
	}
	if err := endpointsSafe(v.Issuer, provider.Endpoint()); err != nil {
		return fmt.Sprintf("%s names addresses for signing in that are not safe: they must begin with https.", v.Issuer), nil
	}
	return "", nil
}
