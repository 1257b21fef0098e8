package directory

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
)

// NewUser is what a user is made of.
type NewUser struct {
	Username string  // folded by FoldUsername; unique in the tenant, for ever
	Name     string  // for people; empty: the user name
	Role     im.Role // required
}

// UserChange says what to change; nil leaves things as they are.
type UserChange struct {
	Name *string
	Role *im.Role
}

// Added is what became of one user of AddUsers.
type Added struct {
	User im.User // if Err is nil
	Err  error
}

// bulkWriters is how many users of AddUsers wait for the store at once: enough
// that its group commit shares flushes, few beside its bounded queue.
const bulkWriters = 64

// AddUser adds one user, who has no password yet. Errors: im.Invalid (field
// username, name or role), im.Exists (field username), im.NotFound for the
// tenant, im.TooLarge over im.MaxUsersPerTenant, and those of the store.
func (d *Directory) AddUser(ctx context.Context, t im.TenantID, n NewUser) (im.User, error) {
	added := d.AddUsers(ctx, t, []NewUser{n})
	return added[0].User, added[0].Err
}

// AddUsers adds many users at once, each for itself: one that is refused does
// not hold back the others. It returns what became of each, in order, with the
// errors of AddUser. All are visible when it returns, none before.
func (d *Directory) AddUsers(ctx context.Context, t im.TenantID, list []NewUser) []Added {
	d.tenants.RLock()
	defer d.tenants.RUnlock()
	out := make([]Added, len(list))
	most := im.MaxUsersPerTenant
	var room int
	ten := d.snap.Load().byID[t]
	if ten != nil {
		if q := ten.set.Quota.Users; q > 0 {
			most = min(most, q)
		}
		room = most - len(ten.sorted)
	}
	names := make(map[string]struct{}, len(list))
	for i, n := range list {
		u, err := d.newUser(t, n)
		_, twice := names[u.Username]
		switch {
		case ten == nil:
			err = unknownTenant()
		case err != nil:
		case twice:
			err = usernameTaken(u.Username)
		case room <= 0:
			// Calls that run at the same moment may pass it together; it keeps the
			// memory bounded, not the count exact.
			err = &im.Error{Kind: im.TooLarge, Limit: int64(most), Message: "The organisation has as many users as it may have. The operator of the server can raise its quota."}
		default:
			room--
			names[u.Username] = struct{}{}
		}
		out[i] = Added{User: u, Err: err}
	}

	var wg sync.WaitGroup
	slots := make(chan struct{}, bulkWriters)
	for i := range out {
		if out[i].Err != nil {
			out[i].User = im.User{}
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			out[i].Err = d.storeNewUser(ctx, &out[i].User)
			<-slots
		})
	}
	wg.Wait()

	var stored []*im.User
	for i := range out {
		if out[i].Err != nil {
			out[i].User = im.User{}
			continue
		}
		u := out[i].User
		stored = append(stored, &u)
	}
	if len(stored) > 0 {
		d.replace(t, func(old *tenant) *tenant { return old.put(stored) })
		d.log.Info("users added", "tenant", string(t), "users", len(stored), "refused", len(list)-len(stored))
	}
	return out
}

// newUser checks n and makes a record of it.
func (d *Directory) newUser(t im.TenantID, n NewUser) (im.User, error) {
	username, err := FoldUsername(n.Username)
	if err != nil {
		return im.User{}, err
	}
	if n.Name == "" {
		n.Name = n.Username
	}
	name, err := checkName(n.Name)
	if err != nil {
		return im.User{}, err
	}
	if n.Role.String() == "" {
		return im.User{}, badRole()
	}
	id, err := d.newUserID()
	if err != nil {
		return im.User{}, err
	}
	return im.User{Tenant: t, ID: id, Username: username, Name: name, Role: n.Role, Created: d.nowMillis()}, nil
}

// storeNewUser stores u if neither its id nor its user name is taken.
func (d *Directory) storeNewUser(ctx context.Context, u *im.User) error {
	err := d.people.UpdateUser(ctx, u.Tenant, u.ID, func(old *im.User) (*im.User, error) {
		if old != nil {
			// Of 2^80 ids the same one twice: the source of randomness is broken.
			return nil, errors.New("the id is taken already")
		}
		next := *u
		return &next, nil
	})
	if im.Is(err, im.Exists) {
		err = usernameTaken(u.Username)
	}
	return im.Wrap("directory: add user "+string(u.Tenant)+"/"+string(u.ID), err)
}

// UpdateUser changes name or role. Errors: im.Invalid (field name or role),
// im.NotFound, and those of the store.
func (d *Directory) UpdateUser(ctx context.Context, t im.TenantID, id im.UserID, c UserChange) (im.User, error) {
	var name string
	if c.Name != nil {
		var err error
		if name, err = checkName(*c.Name); err != nil {
			return im.User{}, err
		}
	}
	if c.Role != nil && c.Role.String() == "" {
		return im.User{}, badRole()
	}
	return d.updateUser(ctx, "update", t, id, func(u *im.User) {
		if c.Name != nil {
			u.Name = name
		}
		if c.Role != nil {
			u.Role = *c.Role
		}
	})
}

// DisableUser shuts a user out, or lets the user in again. Who is disabled can't
// sign in, has no token that is accepted, is found by no search, but keeps name
// and messages; open sockets close with 4102 (PROTOCOL 3.9), each time it is
// called. Errors: im.NotFound, and those of the store.
func (d *Directory) DisableUser(ctx context.Context, t im.TenantID, id im.UserID, disabled bool) error {
	_, err := d.updateUser(ctx, "disable", t, id, func(u *im.User) { u.Disabled = disabled })
	if err == nil && disabled {
		d.bus.Publish([]bus.Event{{Kind: bus.SignedOut, Tenant: t, User: id, Code: closeDisabled}})
	}
	return err
}

// updateUser stores a changed user and then publishes the new snapshot.
func (d *Directory) updateUser(ctx context.Context, verb string, t im.TenantID, id im.UserID, change func(*im.User)) (im.User, error) {
	d.tenants.RLock()
	defer d.tenants.RUnlock()
	defer d.lockUser(t, id).Unlock()
	// Ids come from outside: only one that exists gets as far as the store.
	if _, ok := d.User(t, id); !ok {
		return im.User{}, unknownUser()
	}
	var next im.User
	err := d.people.UpdateUser(ctx, t, id, func(old *im.User) (*im.User, error) {
		if old == nil {
			return nil, unknownUser()
		}
		next = *old
		if change(&next); next == *old {
			return nil, errSame
		}
		u := next
		return &u, nil
	})
	if errors.Is(err, errSame) {
		return next, nil
	}
	if err != nil {
		return im.User{}, im.Wrap("directory: "+verb+" user "+string(t)+"/"+string(id), err)
	}
	u := next
	d.replace(t, func(old *tenant) *tenant { return old.put([]*im.User{&u}) })
	d.log.Info("user stored", "what", verb, "tenant", string(t), "user", string(id), "role", next.Role.String(), "disabled", next.Disabled)
	return next, nil
}

func usernameTaken(name string) error {
	return im.E(im.Exists, "There is a user %s already.", name).OnField("username")
}

func badRole() error {
	return im.E(im.Invalid, "The role is one of %s.", strings.Join(im.Roles(), ", ")).OnField("role")
}
