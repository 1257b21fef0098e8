package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

func ids(rs []store.Record) string {
	var out []string
	for _, r := range rs {
		out = append(out, r.ID+"="+string(r.Value))
	}
	return strings.Join(out, " ")
}

func testRecords(t *testing.T, u *suite) {
	const k, other = store.RecordKind(1), store.RecordKind(2)
	put := func(t im.TenantID, k store.RecordKind, id, v string) error {
		return u.s.UpdateRecords(u.ctx, t, func(x store.RecordTx) error {
			x.Put(k, id, []byte(v))
			return nil
		})
	}
	// A tenant is there from its first record of another contract on.
	u.kind(put(oak, k, "a", "1"), im.NotFound)
	rs, err := u.s.ListRecords(u.ctx, oak, k, "", "", 10)
	u.ok(err)
	u.same(len(rs), 0)
	_, err = u.s.Record(u.ctx, oak, k, "a")
	u.kind(err, im.NotFound)
	for _, id := range []im.TenantID{oak, elm} {
		u.ok(u.s.UpdateTenant(u.ctx, id, func(*im.Tenant) (*im.Tenant, error) { return &im.Tenant{ID: id, Name: "n"}, nil }))
	}
	u.ok(put(oak, k, "a", "1"))
	u.ok(put(oak, other, "a", "other kind"))
	u.ok(put(elm, k, "a", "other tenant"))
	u.ok(put("", k, "a", "the box"))
	u.ok(put("", k, "empty", ""))
	boom := errors.New("boom")
	u.same(u.s.UpdateRecords(u.ctx, oak, func(x store.RecordTx) error {
		x.Put(k, "a", []byte("never"))
		return boom
	}), boom)
	for _, bad := range []string{"", " ", "ä", "a b", strings.Repeat("x", 129)} {
		u.kind(put(oak, k, bad, "v"), im.Invalid)
	}
	u.ok(put(oak, other, strings.Repeat("x", 128), "v"))
	u.kind(u.s.UpdateRecords(u.ctx, oak, func(x store.RecordTx) error {
		x.Put(k, "c", []byte("never"))
		x.Put(k, "d", make([]byte, store.MaxRecordBytes+1))
		return nil
	}), im.TooLarge)
	// Own changes are on top of what is there, in Get and in List.
	u.ok(u.s.UpdateRecords(u.ctx, oak, func(x store.RecordTx) error {
		for i := range 10 {
			x.Put(k, fmt.Sprintf("n%d", i), []byte{'0' + byte(i)})
		}
		x.Delete(k, "n3")
		x.Delete(k, "never was")
		if _, err := x.Get(k, "n3"); !im.Is(err, im.NotFound) {
			t.Errorf("deleted: %v", err)
		}
		v, err := x.Get(k, "n4")
		u.ok(err)
		u.same(string(v), "4")
		l, err := x.List(k, "n", "n1", 3)
		u.ok(err)
		u.same(ids(l), "n2=2 n4=4 n5=5")
		return nil
	}))
	u.ok(u.s.UpdateRecords(u.ctx, oak, func(x store.RecordTx) error {
		x.Put(k, "b", []byte("new"))
		x.Put(k, "n35", []byte("between"))
		x.Put(k, "n4", []byte("changed"))
		x.Delete(k, "n5")
		x.Put(k, "z", []byte("last"))
		l, err := x.List(k, "", "", 99)
		u.ok(err)
		u.same(ids(l), "a=1 b=new n0=0 n1=1 n2=2 n35=between n4=changed n6=6 n7=7 n8=8 n9=9 z=last")
		l, err = x.List(k, "", "n2", 2)
		u.ok(err)
		u.same(ids(l), "n35=between n4=changed")
		return nil
	}))
	for range 2 {
		for _, c := range []struct {
			tenant im.TenantID
			want   string
		}{{oak, "1"}, {elm, "other tenant"}, {"", "the box"}} {
			v, err := u.s.Record(u.ctx, c.tenant, k, "a")
			u.ok(err)
			u.same(string(v), c.want)
		}
		v, err := u.s.Record(u.ctx, "", k, "empty")
		u.ok(err)
		u.same(v, []byte{})
		for _, c := range []struct {
			prefix, after string
			limit         int
			want          string
		}{
			{"", "", 2, "a=1 b=new"}, {"n", "", 2, "n0=0 n1=1"}, {"n", "n7", 9, "n8=8 n9=9"}, {"n", "n9", 9, ""},
			{"n", "a", 1, "n0=0"}, {"n", "o", 9, ""}, {"", "n9", 0, "z=last"}, {"n3", "", 9, "n35=between"},
		} {
			rs, err := u.s.ListRecords(u.ctx, oak, k, c.prefix, c.after, c.limit)
			u.ok(err)
			u.same(ids(rs), c.want)
		}
		u.verify()
		u.reopen()
	}
	// Backup and erase know them.
	var b bytes.Buffer
	u.ok(u.s.Backup(u.ctx, &b))
	fresh := u.open(t)
	v := &suite{t: t, b: fresh, s: fresh.Store, ctx: u.ctx, open: u.open}
	v.ok(v.s.Restore(v.ctx, bytes.NewReader(b.Bytes())))
	for _, c := range []struct {
		tenant im.TenantID
		want   string
	}{{oak, "1"}, {"", "the box"}} {
		got, err := v.s.Record(v.ctx, c.tenant, k, "a")
		v.ok(err)
		v.same(string(got), c.want)
	}
	v.verify()
	u.ok(u.s.EraseTenant(u.ctx, oak))
	_, err = u.s.Record(u.ctx, oak, k, "a")
	u.kind(err, im.NotFound)
	u.kind(put(oak, k, "a", "late"), im.NotFound)
	_, err = u.s.Record(u.ctx, elm, k, "a")
	u.ok(err)
	u.verify()
}
