package storetest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

func testConvs(t *testing.T, u *suite) {
	u.create(oak, room, message("x"))
	mk := func(c im.ConvID, kind im.ConvKind, peers ...im.UserID) *store.Write {
		w := write(oak, c, 0)
		w.Create, w.Conv.Kind, w.Conv.Title = true, kind, string(c)
		copy(w.Conv.Peers[:], peers)
		for _, p := range peers {
			w.Members = append(w.Members, im.Member{Conv: c, User: p, Role: im.MemberMember})
		}
		return w
	}
	u.ok(u.s.Append(u.ctx, []*store.Write{
		mk("c_z", im.KindChannel), mk("c_00000000000000aa", im.KindChannel), mk("c_d", im.KindDirect, ann, bob), mk("c_n", im.KindNotice),
	}))
	// Joined, left, marked.
	u.ok(u.s.Append(u.ctx, []*store.Write{{Tenant: oak, Members: []im.Member{
		{Conv: room, User: cyd, Role: im.MemberReader, Joined: 7, Read: 1}, {Conv: room, User: bob, Joined: 6, Read: 1}}}}))
	for range 2 {
		ms, err := u.s.Members(u.ctx, oak, room)
		u.ok(err)
		for i := range ms {
			if ms[i].Change == 0 {
				t.Fatalf("no change in %+v", ms[i])
			}
			ms[i].Change = 0
		}
		u.same(ms, []im.Member{
			{Conv: room, User: cyd, Role: im.MemberReader, Joined: 7, Read: 1},
			{Conv: room, User: ann, Role: im.MemberOwner, Joined: 5},
			{Conv: room, User: bob, Joined: 6, Read: 1},
		})
		of, err := u.s.OfUser(u.ctx, oak, bob)
		u.ok(err)
		u.same(len(of), 2)
		u.same([]im.ConvID{of[0].Conv, of[1].Conv}, []im.ConvID{room, "c_d"})
		u.same(of[0].Read, im.Seq(1))
		for _, pair := range [][2]im.UserID{{ann, bob}, {bob, ann}} {
			c, err := u.s.Direct(u.ctx, oak, pair[0], pair[1])
			u.ok(err)
			u.same(c, im.ConvID("c_d"))
		}
		d, err := u.s.Conv(u.ctx, oak, "c_d")
		u.ok(err)
		u.same(d.Peers, [2]im.UserID{ann, bob})
		_, err = u.s.Direct(u.ctx, oak, ann, cyd)
		u.kind(err, im.NotFound)
		cs, err := u.s.Channels(u.ctx, oak)
		u.ok(err)
		var ids []im.ConvID
		for _, c := range cs {
			ids = append(ids, c.ID)
			u.same(c.Title, string(c.ID))
		}
		u.same(ids, []im.ConvID{"c_00000000000000aa", "c_z"})
		_, err = u.s.Members(u.ctx, oak, "c_none")
		u.kind(err, im.NotFound)
		_, err = u.s.Conv(u.ctx, oak, "c_none")
		u.kind(err, im.NotFound)
		of, err = u.s.OfUser(u.ctx, oak, "u_nobody")
		u.ok(err)
		u.same(len(of), 0)
		change := u.s.LastChange()
		u.reopen()
		if u.s.LastChange() < change {
			t.Fatalf("the change counter fell from %d to %d", change, u.s.LastChange())
		}
	}
}

func testPeople(t *testing.T, u *suite) {
	tenant := func(id im.TenantID) im.Tenant {
		return im.Tenant{ID: id, Name: "School " + string(id), Suspended: id == elm, Created: 9}
	}
	for _, id := range []im.TenantID{oak, elm} {
		u.ok(u.s.UpdateTenant(u.ctx, id, func(old *im.Tenant) (*im.Tenant, error) {
			if old != nil {
				t.Errorf("old %+v", old)
			}
			n := tenant(id)
			return &n, nil
		}))
	}
	boom := errors.New("boom")
	u.same(u.s.UpdateTenant(u.ctx, oak, func(old *im.Tenant) (*im.Tenant, error) {
		old.Name = "changed in place"
		return old, boom
	}), boom)
	u.ok(u.s.UpdateTenant(u.ctx, oak, func(old *im.Tenant) (*im.Tenant, error) {
		u.same(*old, tenant(oak))
		old.Name = "changed in place"
		return nil, nil
	}))
	user := func(id im.UserID, name string) im.User {
		return im.User{Tenant: oak, ID: id, Username: name, Name: "Na me", Role: im.RoleStaff, Created: 3}
	}
	put := func(t im.TenantID, n im.User) error {
		return u.s.UpdateUser(u.ctx, t, n.ID, func(old *im.User) (*im.User, error) { return &n, nil })
	}
	u.ok(put(oak, user(ann, "ann")))
	u.ok(put(oak, user(bob, "bob")))
	elmAnn := user(ann, "ann")
	elmAnn.Tenant = elm
	u.ok(put(elm, elmAnn)) // same id and name in another tenant
	err := put(oak, user(cyd, "ann"))
	u.kind(err, im.Exists)
	u.kind(put(oak, user(bob, "ann")), im.Exists)
	renamed := user(bob, "robert")
	renamed.Disabled = true
	u.ok(put(oak, renamed))
	u.ok(put(oak, user(cyd, "bob"))) // the name is free again
	u.same(u.s.UpdateUser(u.ctx, oak, ann, func(old *im.User) (*im.User, error) { return nil, boom }), boom)
	_, err = u.s.Credential(u.ctx, oak, ann)
	u.kind(err, im.NotFound)
	for i, want := range []string{"$argon2id$1", "$argon2id$2"} {
		u.ok(u.s.UpdateCredential(u.ctx, oak, ann, func(old *store.Credential) (*store.Credential, error) {
			if (old == nil) != (i == 0) {
				t.Errorf("old %+v", old)
			}
			return &store.Credential{PHC: want, Changed: im.Millis(i)}, nil
		}))
	}
	// All wait for one name: one gets it.
	won := make(chan error, 8)
	for i := range cap(won) {
		go func() { won <- put(oak, user(im.UserID(fmt.Sprint("u_", i)), "popular")) }()
	}
	got := 0
	for range cap(won) {
		if err := <-won; err == nil {
			got++
		} else {
			u.kind(err, im.Exists)
		}
	}
	u.same(got, 1)
	for range 2 {
		ts, err := u.s.Tenants(u.ctx)
		u.ok(err)
		u.same(ts, []im.Tenant{tenant(elm), tenant(oak)})
		us, err := u.s.Users(u.ctx, oak)
		u.ok(err)
		us = slices.DeleteFunc(us, func(n im.User) bool { return n.Username == "popular" })
		u.same(us, []im.User{user(cyd, "bob"), user(ann, "ann"), renamed})
		c, err := u.s.Credential(u.ctx, oak, ann)
		u.ok(err)
		u.same(c, store.Credential{PHC: "$argon2id$2", Changed: 1})
		us, err = u.s.Users(u.ctx, "none")
		u.ok(err)
		u.same(len(us), 0)
		u.reopen()
	}
}

func testTokens(t *testing.T, u *suite) {
	in := func(tenant im.TenantID, n byte, of im.UserID) store.SignIn {
		return store.SignIn{ID: im.SignInID(fmt.Sprint("i_", n)), Tenant: tenant, User: of, Hash: [32]byte{n, 1}, Device: "dev",
			Created: 4, CreatedAge: time.Hour, Lifetime: 30 * 24 * time.Hour}
	}
	for _, s := range []store.SignIn{in(oak, 1, ann), in(oak, 2, ann), in(oak, 3, bob), in(elm, 1, bob)} {
		u.ok(u.s.PutSignIn(u.ctx, s))
	}
	again := in(oak, 3, bob)
	again.Device = "other"
	u.ok(u.s.PutSignIn(u.ctx, again))
	for range 2 {
		got, err := u.s.SignIn(u.ctx, oak, [32]byte{1, 1})
		u.ok(err)
		u.same(got, in(oak, 1, ann))
		got, err = u.s.SignIn(u.ctx, elm, [32]byte{1, 1})
		u.ok(err)
		u.same(got, in(elm, 1, bob))
		_, err = u.s.SignIn(u.ctx, oak, [32]byte{9})
		u.kind(err, im.NotFound)
		of, err := u.s.SignIns(u.ctx, oak, ann)
		u.ok(err)
		u.same(of, []store.SignIn{in(oak, 1, ann), in(oak, 2, ann)})
		of, err = u.s.SignIns(u.ctx, oak, bob)
		u.ok(err)
		u.same(of, []store.SignIn{again})
		u.reopen()
	}
	gone, err := u.s.DeleteSignIns(u.ctx, oak, ann, func(s store.SignIn) bool { return s.Hash[0] == 2 })
	u.ok(err)
	u.same(gone, []store.SignIn{in(oak, 2, ann)})
	gone, err = u.s.DeleteSignIns(u.ctx, oak, ann, func(s store.SignIn) bool { return false })
	u.ok(err)
	u.same(len(gone), 0)
	gone, err = u.s.DeleteSignIns(u.ctx, oak, "", func(store.SignIn) bool { return true })
	u.ok(err)
	u.same(len(gone), 2)
	u.reopen()
	_, err = u.s.SignIn(u.ctx, oak, [32]byte{1, 1})
	u.kind(err, im.NotFound)
	of, err := u.s.SignIns(u.ctx, oak, bob)
	u.ok(err)
	u.same(len(of), 0)
	_, err = u.s.SignIn(u.ctx, elm, [32]byte{1, 1})
	u.ok(err)
	u.verify()
}

func testBox(t *testing.T, u *suite) {
	epoch := u.s.Epoch()
	if epoch == "" {
		t.Fatal("no epoch")
	}
	u.ok(u.s.Probe(u.ctx))
	_, err := u.s.Setting(u.ctx, "auth.argon")
	u.kind(err, im.NotFound)
	u.ok(u.s.SetSetting(u.ctx, "auth.argon", []byte("t=3")))
	u.ok(u.s.SetSetting(u.ctx, "auth.argon", []byte{}))
	u.ok(u.s.SetSetting(u.ctx, "big", make([]byte, 4096)))
	u.kind(u.s.SetSetting(u.ctx, "big", make([]byte, 4097)), im.TooLarge)
	for _, bad := range []string{"", "A", "a b", "ä", "a/b"} {
		u.kind(u.s.SetSetting(u.ctx, bad, nil), im.Invalid)
	}
	now, age := u.s.Now(), u.s.Age()
	for range 2 {
		v, err := u.s.Setting(u.ctx, "auth.argon")
		u.ok(err)
		u.same(v, []byte{})
		v, err = u.s.Setting(u.ctx, "big")
		u.ok(err)
		u.same(len(v), 4096)
		u.same(u.s.Epoch(), epoch)
		// A clean stop loses nothing; times are kept to the millisecond.
		if n := u.s.Now(); n.Before(now.Truncate(time.Millisecond)) {
			t.Fatalf("now fell from %v to %v", now, n)
		}
		if a := u.s.Age(); a < age {
			t.Fatalf("age fell from %v to %v", age, a)
		}
		u.reopen()
	}
	u.same(u.s.Stats().State, store.Writable)
}

func testSealed(t *testing.T, u *suite) {
	for _, id := range []im.TenantID{oak, elm} {
		u.create(id, room, message("of "+string(id)), im.Entry{Kind: im.EntryPin, Target: 1, On: true},
			im.Entry{Kind: im.EntryReaction, Target: 1, Emoji: "e_" + string(id), On: true, By: bob})
		u.ok(u.s.Append(u.ctx, []*store.Write{{Tenant: id, Key: &store.Key{User: ann, Key: "k", Conv: im.ConvID("c_" + id)}}}))
	}
	u.ok(u.s.Append(u.ctx, []*store.Write{write(elm, room, 3, im.Entry{Kind: im.EntryRecall, Target: 1})}))
	p := u.page(room, ann)
	if p.Head != 3 || p.Entries[0].Recalled || p.Entries[0].Entry.Text != "of oakhill" || p.Entries[0].Reactions[0].Emoji != "e_oakhill" {
		t.Fatalf("%+v", p)
	}
	pins, err := u.s.Pins(u.ctx, elm, room, ann, 9)
	u.ok(err)
	u.same(len(pins), 0)
	for _, id := range []im.TenantID{oak, elm} {
		k, err := u.s.Key(u.ctx, id, ann, "k")
		u.ok(err)
		u.same(k.Conv, im.ConvID("c_"+id))
		of, err := u.s.OfUser(u.ctx, id, ann)
		u.ok(err)
		u.same(len(of), 1)
	}
	for _, other := range []im.TenantID{"", "oak", "oakhill2", "e"} {
		_, err := u.s.Page(u.ctx, other, room, ann, 1, 9)
		u.kind(err, im.NotFound)
	}
}

// incompressible returns 40 random letters of which no run of four occurred
// before, here or in a text made with the same runs: so a compressor of matches
// (Snappy) leaves them as they are.
func incompressible(runs map[string]bool) string {
	var s []byte
	for len(s) < 40 {
		s = append(s, rand.Text()[0])
		if n := len(s); n >= 4 {
			if run := string(s[n-4:]); runs[run] {
				s = s[:n-1]
			} else {
				runs[run] = true
			}
		}
	}
	return string(s)
}

func testErase(t *testing.T, u *suite) {
	// Planted where people's data stands, and incompressible, so that a file holds
	// them as they are: first it must be seen that they are there.
	planted, runs := map[string]string{}, map[string]bool{}
	for _, where := range []string{"message", "record", "credential", "user name", "device"} {
		planted[where] = incompressible(runs)
	}
	var es []im.Entry
	for i := range 500 {
		es = append(es, message(fmt.Sprint(planted["message"], i)))
	}
	u.create(elm, room, es...)
	u.create(oak, room, message("kept"))
	for _, id := range []im.TenantID{oak, elm} {
		u.ok(u.s.UpdateTenant(u.ctx, id, func(*im.Tenant) (*im.Tenant, error) { return &im.Tenant{ID: id, Name: "n"}, nil }))
	}
	u.ok(u.s.PutSignIn(u.ctx, store.SignIn{Tenant: elm, User: ann, Hash: [32]byte{7}, Device: planted["device"]}))
	u.ok(u.s.UpdateRecords(u.ctx, elm, func(tx store.RecordTx) error {
		tx.Put(store.RecordAudit, "1", []byte(planted["record"]))
		return nil
	}))
	u.ok(u.s.UpdateUser(u.ctx, elm, ann, func(*im.User) (*im.User, error) {
		return &im.User{Tenant: elm, ID: ann, Username: planted["user name"], Name: "Ann", Role: im.RoleStaff}, nil
	}))
	u.ok(u.s.UpdateCredential(u.ctx, elm, ann, func(*store.Credential) (*store.Credential, error) {
		return &store.Credential{PHC: planted["credential"]}, nil
	}))
	u.ok(u.s.Close())
	for where, text := range planted {
		if u.b.Contains != nil && !u.b.Contains(t, []byte(text)) {
			t.Errorf("the planted %s is not seen on the disk: this test can't fail", where)
		}
	}
	u.reopen()
	usage, err := u.s.Usage(u.ctx, elm)
	u.ok(err)
	if usage.Conversations != 1 || usage.Bytes < 500*40 {
		t.Errorf("usage %+v", usage)
	}
	u.ok(u.s.EraseTenant(u.ctx, elm))
	u.ok(u.s.EraseTenant(u.ctx, "never was"))
	for range 2 {
		_, err := u.s.Page(u.ctx, elm, room, ann, 1, 9)
		u.kind(err, im.NotFound)
		_, err = u.s.SignIn(u.ctx, elm, [32]byte{7})
		u.kind(err, im.NotFound)
		ts, err := u.s.Tenants(u.ctx)
		u.ok(err)
		u.same(len(ts), 1)
		u.same(u.page(room, ann).Entries[0].Entry.Text, "kept")
		u.verify()
		u.ok(u.s.Close())
		for where, text := range planted {
			if u.b.Contains != nil && u.b.Contains(t, []byte(text)) {
				t.Errorf("the %s was erased and is still on the disk", where)
			}
		}
		u.reopen()
	}
	usage, err = u.s.Usage(u.ctx, elm)
	u.ok(err)
	u.same(usage, store.Usage{})
	// The same name begins anew.
	u.create(elm, room, message("new"))
	p, err := u.s.Page(u.ctx, elm, room, ann, 1, 9)
	u.ok(err)
	u.same(len(p.Entries), 1)
}

func testBackup(t *testing.T, u *suite) {
	u.create(oak, room, everyEntry()...)
	u.create(elm, "c_other", message("elm"))
	u.ok(u.s.UpdateTenant(u.ctx, oak, func(*im.Tenant) (*im.Tenant, error) { return &im.Tenant{ID: oak, Name: "n"}, nil }))
	u.ok(u.s.PutSignIn(u.ctx, store.SignIn{Tenant: oak, User: ann, Hash: [32]byte{7}, CreatedAge: u.s.Age()}))
	u.ok(u.s.SetSetting(u.ctx, "name", []byte("value")))
	want, change, age, epoch := u.page(room, bob), u.s.LastChange(), u.s.Age(), u.s.Epoch()
	var b bytes.Buffer
	u.ok(u.s.Backup(u.ctx, &b))
	whole := b.Bytes()

	u.kind(u.s.Restore(u.ctx, bytes.NewReader(whole)), im.Conflict)

	fresh := u.open(t)
	v := &suite{t: t, b: fresh, s: fresh.Store, ctx: u.ctx, open: u.open}
	refuse := func(why string, bad []byte) {
		t.Helper()
		if err := v.s.Restore(v.ctx, bytes.NewReader(bad)); !im.Is(err, im.Invalid) {
			t.Fatalf("%s: %v", why, err)
		}
		ts, err := v.s.Tenants(v.ctx)
		v.ok(err)
		v.same(len(ts), 0)
		_, err = v.s.Page(v.ctx, oak, room, ann, 1, 9)
		v.kind(err, im.NotFound)
		_, err = v.s.Setting(v.ctx, "name")
		v.kind(err, im.NotFound)
	}
	for _, n := range []int{0, 1, len(whole) / 3, len(whole) - 1} {
		refuse(fmt.Sprintf("cut at %d", n), whole[:n])
	}
	for _, at := range []int{0, 25, len(whole) / 4, len(whole) / 2, len(whole) - 40, len(whole) - 1} {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		refuse(fmt.Sprintf("bit flipped at %d", at), bad)
	}
	v.reopen()
	v.ok(v.s.Restore(v.ctx, bytes.NewReader(whole)))
	restored := v.s.Epoch()
	if restored == epoch || restored == "" {
		t.Fatalf("epoch %q after %q", restored, epoch)
	}
	for range 2 {
		v.same(v.page(room, bob), want)
		if v.s.LastChange() < change || v.s.Age() < age {
			t.Fatalf("change %d (was %d), age %v (was %v)", v.s.LastChange(), change, v.s.Age(), age)
		}
		got, err := v.s.Setting(v.ctx, "name")
		v.ok(err)
		v.same(string(got), "value")
		_, err = v.s.SignIn(v.ctx, oak, [32]byte{7})
		v.ok(err)
		p, err := v.s.Page(v.ctx, elm, "c_other", ann, 1, 9)
		v.ok(err)
		v.same(len(p.Entries), 1)
		v.verify()
		v.same(v.s.Epoch(), restored)
		v.reopen()
	}
	v.append(10, message("goes on"))
}
