package directory

import (
	"context"
	"errors"
	"sync"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
)

// PutUsers stores users with the ids that they have, new ones and changed ones:
// of a user who is there already name, role and disabled are changed, and nothing
// else. It may be done again with the same list, after a cut say, and then changes
// nothing. It returns the error of each, in order: im.Invalid for a record that
// could not be one, im.Exists for a user name that somebody else has, and those of
// the store. All are visible when it returns, none before; sockets of those who
// were disabled close (4102).
func (d *Directory) PutUsers(ctx context.Context, t im.TenantID, list []im.User) []error {
	d.tenants.RLock()
	defer d.tenants.RUnlock()
	errs := make([]error, len(list))
	stored := make([]*im.User, len(list))
	if _, ok := d.Tenant(t); !ok {
		for i := range errs {
			errs[i] = unknownTenant()
		}
		return errs
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, bulkWriters)
	var ended []bus.Event
	for i, u := range list {
		if errs[i] = checkRecord(&u); errs[i] != nil {
			continue
		}
		if old, ok := d.User(t, u.ID); ok && old.Disabled != u.Disabled && u.Disabled {
			ended = append(ended, bus.Event{Kind: bus.SignedOut, Tenant: t, User: u.ID, Code: closeDisabled})
		}
		slots <- struct{}{}
		wg.Go(func() {
			stored[i], errs[i] = d.putUser(ctx, t, u)
			<-slots
		})
	}
	wg.Wait()
	changed := make([]*im.User, 0, len(list))
	for _, u := range stored {
		if u != nil {
			changed = append(changed, u)
		}
	}
	if len(changed) > 0 {
		d.replace(t, func(old *tenant) *tenant { return old.put(changed) })
		d.log.Info("users of a roster stored", "tenant", string(t), "users", len(changed))
	}
	if len(ended) > 0 {
		d.bus.Publish(ended)
	}
	return errs
}

// CheckUser says whether a user could have that user name, name and role, and
// returns both names as they would be stored.
func CheckUser(username, name string, role im.Role) (foldedUsername, cleanName string, err error) {
	u := im.User{Username: username, Name: name, Role: role}
	if u.Username, err = FoldUsername(username); err == nil {
		if u.Name == "" {
			u.Name = username
		}
		err = checkRecord(&u)
	}
	return u.Username, u.Name, err
}

// CheckName returns a name for people as it would be stored.
func CheckName(name string) (string, error) { return checkName(name) }

// checkRecord cleans the name of u, whose user name is folded already.
func checkRecord(u *im.User) (err error) {
	folded, err := FoldUsername(u.Username)
	switch {
	case err != nil:
		return err
	case folded != u.Username:
		return badUsername()
	case u.Role.String() == "":
		return badRole()
	}
	u.Name, err = checkName(u.Name)
	return err
}

// putUser stores one; nil if there was nothing to change.
func (d *Directory) putUser(ctx context.Context, t im.TenantID, u im.User) (*im.User, error) {
	defer d.lockUser(t, u.ID).Unlock()
	created := d.nowMillis()
	var next im.User
	err := d.people.UpdateUser(ctx, t, u.ID, func(old *im.User) (*im.User, error) {
		if old == nil {
			next = u
			next.Tenant, next.Created = t, created
		} else {
			next = *old
			next.Name, next.Role, next.Disabled = u.Name, u.Role, u.Disabled
			if next == *old {
				return nil, errSame
			}
		}
		stored := next
		return &stored, nil
	})
	switch {
	case errors.Is(err, errSame):
		return nil, nil
	case im.Is(err, im.Exists):
		return nil, usernameTaken(u.Username)
	case err != nil:
		return nil, im.Wrap("directory: put user "+string(t)+"/"+string(u.ID), err)
	}
	return &next, nil
}
