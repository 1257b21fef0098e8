package badgerstore

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Tenants implements store.People; in order of id.
func (s *Store) Tenants(ctx context.Context) ([]im.Tenant, error) {
	r, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	defer r.end()
	var ts []im.Tenant
	for id, sp := range s.spaces.all() {
		err := r.get(sp.tenant(), func(p []byte) error {
			t, err := decodeTenant(id, p)
			ts = append(ts, t)
			return err
		})
		if err != nil && !errors.Is(err, errAbsent) {
			return nil, err
		}
	}
	slices.SortFunc(ts, func(a, b im.Tenant) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return ts, nil
}

// change runs fn on the record at k, as People wants it: the new record, or nil
// for leaving all as it is.
func change[R any](t *tx, k key, decode func([]byte) (R, error), fn func(*R) (*R, error)) (old, rec *R, err error) {
	err = t.get(k, func(p []byte) error {
		r, err := decode(p)
		old = &r
		return err
	})
	if err != nil && !errors.Is(err, errAbsent) {
		return nil, nil, err
	}
	var given *R // fn may change what it is given
	if old != nil {
		c := *old
		given = &c
	}
	rec, err = fn(given)
	if rec != nil {
		c := *rec
		rec = &c
	}
	return old, rec, err
}

// UpdateTenant implements store.People.
func (s *Store) UpdateTenant(ctx context.Context, id im.TenantID, fn func(old *im.Tenant) (*im.Tenant, error)) error {
	return s.submit(ctx, &job{writes: 1, run: func(t *tx) error {
		sp, err := t.space(id)
		if err != nil {
			return err
		}
		_, rec, err := change(t, sp.tenant(), func(p []byte) (im.Tenant, error) { return decodeTenant(id, p) }, fn)
		if err != nil {
			return err
		}
		if rec == nil {
			return errLeave
		}
		t.put(sp.tenant(), encodeTenant(rec))
		return nil
	}})
}

// Users implements store.People; in order of id.
func (s *Store) Users(ctx context.Context, id im.TenantID) ([]im.User, error) {
	r, sp, err := s.in(ctx, id)
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.end()
	var us []im.User
	err = r.list(sp, sp.all(kindUser), func(k, p []byte) error {
		at, err := parse(k)
		if err != nil {
			return s.damaged(k, err)
		}
		u, err := decodeUser(id, at.user, p)
		if err != nil {
			return s.damaged(k, err)
		}
		us = append(us, u)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return us, nil
}

// UpdateUser implements store.People.
func (s *Store) UpdateUser(ctx context.Context, id im.TenantID, u im.UserID, fn func(old *im.User) (*im.User, error)) error {
	return s.submit(ctx, &job{writes: 1, run: func(t *tx) error {
		sp, err := t.space(id)
		if err != nil {
			return err
		}
		k := sp.user(u)
		old, rec, err := change(t, k, func(p []byte) (im.User, error) { return decodeUser(id, u, p) }, fn)
		if err != nil {
			return err
		}
		if rec == nil {
			return errLeave
		}
		if old == nil || old.Username != rec.Username {
			name := sp.username(rec.Username)
			if taken, err := t.has(name); err != nil {
				return err
			} else if taken {
				return im.E(im.Exists, "that user name is taken").OnField("username")
			}
			t.put(name, encodeText(string(u)))
		}
		switch {
		case old == nil:
			if err := t.grow(sp, sp.all(kindUser), 1); err != nil {
				return err
			}
		case old.Username != rec.Username:
			t.del(sp.username(old.Username))
		}
		t.put(k, encodeUser(rec))
		return nil
	}})
}

// Credential implements store.People.
func (s *Store) Credential(ctx context.Context, id im.TenantID, u im.UserID) (c store.Credential, err error) {
	r, sp, err := s.in(ctx, id)
	if err != nil {
		return c, orNotFound(err, "credential")
	}
	defer r.end()
	err = r.get(sp.credential(u), func(p []byte) (err error) {
		c, err = decodeCredential(p)
		return err
	})
	return c, orNotFound(err, "credential")
}

// UpdateCredential implements store.People.
func (s *Store) UpdateCredential(ctx context.Context, id im.TenantID, u im.UserID, fn func(old *store.Credential) (*store.Credential, error)) error {
	return s.submit(ctx, &job{writes: 1, run: func(t *tx) error {
		sp, err := t.space(id)
		if err != nil {
			return err
		}
		_, rec, err := change(t, sp.credential(u), decodeCredential, fn)
		if err != nil {
			return err
		}
		if rec == nil {
			return errLeave
		}
		t.put(sp.credential(u), encodeCredential(rec))
		return nil
	}})
}

// EraseTenant implements store.People. When it returns the tenant's records are
// in no file of the store any more: badger rewrote every table that held one.
// What the card's own controller or the file system may keep of freed blocks is
// beyond it. Reads of other tenants wait while tables are rewritten.
func (s *Store) EraseTenant(ctx context.Context, id im.TenantID) error {
	var sp space
	return s.submit(ctx, &job{writes: 1, alone: true, run: func(t *tx) error {
		var ok bool
		if sp, ok = s.spaces.find(id); !ok {
			return errLeave
		}
		many, err := t.uint(box(boxTenants))
		if err != nil {
			return err
		}
		t.put(box(boxTenants), encodeUint(many-1))
		t.del(boxNamed(boxTenant, string(id)))
		// Should power fail before the dropping is done, the next start does it.
		t.put(boxErase(sp), begin(0))
		return nil
	}, after: func() error {
		s.spaces.remove(id)
		return s.drop(sp)
	}})
}

func boxErase(sp space) key { return boxNamed(boxErasing, string(sp.prefix())) }

// drop removes every trace of a tenant that is in the registry no more. It runs
// on the committer, or before it started.
func (s *Store) drop(sp space) error {
	if err := s.dropPrefix(sp.prefix()); err != nil {
		s.failStop(err, s.ts.Load()+1)
		return s.refusal()
	}
	t, err := s.beginTx()
	if err != nil {
		return err
	}
	defer t.end()
	t.del(boxErase(sp))
	return s.commit(t)
}

// PutSignIn implements store.Tokens.
func (s *Store) PutSignIn(ctx context.Context, in store.SignIn) error {
	return s.submit(ctx, &job{writes: 1, run: func(t *tx) error {
		sp, err := t.space(in.Tenant)
		if err != nil {
			return err
		}
		k := sp.signIn(in.Hash)
		var old *store.SignIn
		err = t.get(k, func(p []byte) error {
			o, err := decodeSignIn(in.Tenant, in.Hash, p)
			old = &o
			return err
		})
		if err != nil && !errors.Is(err, errAbsent) {
			return err
		}
		if old != nil && old.User != in.User {
			if err := t.dropSignIn(sp, *old); err != nil {
				return err
			}
			old = nil
		}
		if old == nil {
			t.put(sp.signInOf(in.User, in.Hash), begin(0))
			if err := t.grow(sp, sp.signInsOf(in.User), 1); err != nil {
				return err
			}
		}
		t.put(k, encodeSignIn(&in))
		return nil
	}})
}

func (t *tx) dropSignIn(sp space, in store.SignIn) error {
	t.del(sp.signIn(in.Hash))
	t.del(sp.signInOf(in.User, in.Hash))
	return t.grow(sp, sp.signInsOf(in.User), -1)
}

// SignIn implements store.Tokens.
func (s *Store) SignIn(ctx context.Context, id im.TenantID, hash [32]byte) (in store.SignIn, err error) {
	r, sp, err := s.in(ctx, id)
	if err != nil {
		return in, orNotFound(err, "sign-in")
	}
	defer r.end()
	err = r.get(sp.signIn(hash), func(p []byte) (err error) {
		in, err = decodeSignIn(id, hash, p)
		return err
	})
	return in, orNotFound(err, "sign-in")
}

// SignIns implements store.Tokens; in order of the hash.
func (s *Store) SignIns(ctx context.Context, id im.TenantID, u im.UserID) ([]store.SignIn, error) {
	r, sp, err := s.in(ctx, id)
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.end()
	return r.signIns(id, sp, u)
}

// signIns reads the sign-ins of a user, or for an empty one those of all users
// in order of user.
func (r *snap) signIns(id im.TenantID, sp space, u im.UserID) ([]store.SignIn, error) {
	var ins []store.SignIn
	add := func(k, _ []byte) error {
		at, err := parse(k)
		if err != nil {
			return r.s.damaged(k, err)
		}
		hash := [32]byte([]byte(at.name))
		ik := sp.signIn(hash)
		err = r.get(ik, func(p []byte) error {
			in, err := decodeSignIn(id, hash, p)
			ins = append(ins, in)
			return err
		})
		if errors.Is(err, errAbsent) {
			err = r.s.damaged(ik.b, errors.New("the sign-in is missing"))
		}
		return err
	}
	var err error
	if u != "" {
		err = r.list(sp, sp.signInsOf(u), add)
	} else {
		all := sp.all(kindSignInsOf)
		err = r.each(all, all, add)
	}
	if err != nil {
		return nil, err
	}
	return ins, nil
}

// DeleteSignIns implements store.Tokens.
func (s *Store) DeleteSignIns(ctx context.Context, id im.TenantID, u im.UserID, pick func(store.SignIn) bool) ([]store.SignIn, error) {
	var gone []store.SignIn
	err := s.submit(ctx, &job{writes: 1, alone: true, run: func(t *tx) error {
		sp, ok := s.spaces.find(id)
		if !ok {
			return errLeave
		}
		// Alone in its group: nothing is on top of the snapshot.
		ins, err := t.signIns(id, sp, u)
		if err != nil {
			return err
		}
		for _, in := range ins {
			if !pick(in) {
				continue
			}
			gone = append(gone, in)
			if t.full() {
				t.cut()
			}
			if err := t.dropSignIn(sp, in); err != nil {
				return err
			}
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return gone, nil
}
