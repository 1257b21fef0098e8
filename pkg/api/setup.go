package api

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/im"
)

const (
	// setupAlphabet has 32 letters and digits that nobody confuses when reading
	// them off a screen, so that a random byte picks one without bias.
	setupAlphabet = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	setupLetters  = 8 // 40 bits, in two groups of four

	setupTries = 5               // wrong codes before each further one must wait
	setupWait  = 2 * time.Second // for the first of them; it doubles
	setupMost  = 5 * time.Minute
)

// setup is the box before anybody can sign in: whoever has the one-time code,
// which only the box itself shows, makes the organisation and its first owner.
// The code lives as long as the process and is good until there is a user.
type setup struct {
	mu    sync.Mutex // guards all; also lets one POST in at a time
	code  string
	wrong int
	until time.Time // no code is looked at before
}

// SetupCode returns the one-time code with which a browser may set the box up,
// or "" once there is somebody who can sign in.
func (a *API) SetupCode() string {
	a.setup.mu.Lock()
	defer a.setup.mu.Unlock()
	if !a.setupNeeded() {
		a.setup.code = ""
		return ""
	}
	if a.setup.code == "" {
		b := make([]byte, setupLetters)
		_, _ = rand.Read(b) // never fails (crypto/rand)
		for i := range b {
			b[i] = setupAlphabet[int(b[i])%len(setupAlphabet)]
		}
		a.setup.code = string(b[:4]) + "-" + string(b[4:])
	}
	return a.setup.code
}

// setupNeeded says whether there is no user yet.
func (a *API) setupNeeded() bool {
	_, users := a.Directory.Size()
	return users == 0
}

// SetupState is the answer of GET /v1/setup.
type SetupState struct {
	Needed bool `json:"needed" doc:"True until the box has its first user."`
}

// Setup is the body of POST /v1/setup.
type Setup struct {
	_        struct{} `additionalProperties:"true"`
	Code     string   `json:"code" maxLength:"64" doc:"Shown by the server on its console and by pipit setup-code; case, spaces and dashes do not matter."`
	ID       string   `json:"id,omitempty" maxLength:"200" doc:"The tenant's id: small letters, digits and dashes."`
	Name     string   `json:"name,omitempty" maxLength:"1000" doc:"The organisation's name. Left out: the code is looked at, and nothing is made."`
	Kind     string   `json:"kind,omitempty" enum:"school,office,open" doc:"The preset of rules to begin with."`
	Username string   `json:"username,omitempty" maxLength:"200" doc:"Of the first owner."`
	Person   string   `json:"person,omitempty" maxLength:"1000" doc:"The first owner's name for people."`
	Password string   `json:"password,omitempty" maxLength:"4096"`
}

// SetupDone is the answer of POST /v1/setup.
type SetupDone struct {
	Tenant *Tenant `json:"tenant,omitempty" doc:"Absent if only the code was looked at."`
	User   *User   `json:"user,omitempty"`
}

func (a *API) registerSetup(api huma.API) {
	register(a, api, endpoint{
		ID: "get-setup", Method: http.MethodGet, Path: "/v1/setup", Tag: "setup", Caller: anybody,
		Summary: "Whether the box still has to be set up",
	}, func(context.Context, *struct{}) (*body[SetupState], error) {
		return &body[SetupState]{SetupState{Needed: a.setupNeeded()}}, nil
	})
	register(a, api, endpoint{
		ID: "set-up", Method: http.MethodPost, Path: "/v1/setup", Tag: "setup", Caller: anybody,
		Summary: "Set the box up: the organisation and its first owner, with the one-time code", Status: http.StatusCreated, MaxBody: 16 << 10, Audit: "tenant.create",
	}, func(ctx context.Context, in *body[Setup]) (*body[SetupDone], error) {
		done, err := a.setUp(ctx, &in.Body)
		if err != nil {
			return nil, err
		}
		return &body[SetupDone]{*done}, nil
	})
}

// registerSetupCode adds what `pipit setup-code` asks for.
func (a *API) registerSetupCode(api huma.API) {
	operation(a, api, "setup-code", http.MethodGet, "/admin/setup-code", "", "The one-time code to set the box up in a browser", 0,
		func(context.Context, *struct{}) (*body[apiclient.SetupCode], error) {
			code := a.SetupCode()
			if code == "" {
				return nil, im.E(im.NotFound, "This box is set up already: there is somebody who can sign in.")
			}
			return &body[apiclient.SetupCode]{apiclient.SetupCode{Code: code}}, nil
		})
}

// plainCode is a code as it is compared, however somebody typed it.
func plainCode(s string) string {
	return strings.ToUpper(strings.NewReplacer("-", "", " ", "", "–", "").Replace(s))
}

// judgeSetupCode takes a code or says why not. mu is held.
func (a *API) judgeSetupCode(code string) error {
	s := &a.setup
	now := time.Now()
	if wait := s.until.Sub(now); wait > 0 {
		return &im.Error{Kind: im.RateLimited, Message: "Too many wrong codes. Wait a moment and try again.", RetryAfter: wait}
	}
	if s.code != "" && subtle.ConstantTimeCompare([]byte(plainCode(code)), []byte(plainCode(s.code))) == 1 {
		s.wrong = 0
		return nil
	}
	s.wrong++
	if over := s.wrong - setupTries; over >= 0 {
		s.until = now.Add(min(setupWait<<min(over, 16), setupMost))
	}
	return im.E(im.Unauthenticated, "That is not the code. The box shows it on its screen, and `pipit setup-code` prints it.").OnField("code")
}

// setUp makes what the wizard asks for, all of it or nothing.
func (a *API) setUp(ctx context.Context, in *Setup) (*SetupDone, error) {
	a.SetupCode() // the first one after a start makes it; afterwards it is there
	a.setup.mu.Lock()
	defer a.setup.mu.Unlock()
	if !a.setupNeeded() {
		return nil, im.E(im.Conflict, "This box is set up already. Sign in.")
	}
	if err := a.judgeSetupCode(in.Code); err != nil {
		return nil, err
	}
	if in.Name == "" && in.Username == "" {
		return &SetupDone{}, nil
	}
	policy, err := access.NewPolicy(in.Kind, nil)
	if err != nil {
		return nil, err
	}
	if err := a.Auth.CheckPassword(im.TenantID(in.ID), in.Username, in.Password); err != nil {
		return nil, err
	}
	id := im.TenantID(in.ID)
	t, err := a.Directory.AddTenant(ctx, id, in.Name)
	if err != nil {
		return nil, err
	}
	u, err := func() (im.User, error) {
		if err := a.Directory.SetPolicy(ctx, id, policy); err != nil {
			return im.User{}, err
		}
		return a.addPerson(ctx, id, NewPerson{Username: in.Username, Name: in.Person, Role: im.RoleOwner.String(), Password: in.Password})
	}()
	if err != nil {
		// Half an organisation would leave a box that nobody can sign in to.
		if gone := a.Directory.EraseTenant(context.WithoutCancel(ctx), id); gone != nil {
			a.log.Error("set-up not undone", "tenant", string(id), "error", gone)
		}
		return nil, err
	}
	// Whoever had the code has the box.
	if a.Directory.Keeper() == "" {
		if err := a.Directory.SetKeeper(ctx, id); err != nil {
			a.log.Error("nobody looks after the box from a browser", "tenant", string(id), "error", err)
		}
	}
	a.setup.code = ""
	a.log.Info("set up", "tenant", string(id), "user", string(u.ID), "kind", in.Kind)
	user := userOf(&u)
	return &SetupDone{Tenant: &Tenant{ID: string(t.ID), Name: t.Name}, User: &user}, nil
}
