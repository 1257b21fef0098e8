package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

func sum(token string) [32]byte { return sha256.Sum256([]byte(token)) }

// spy counts look-ups and can stop one after it has read.
type spy struct {
	store.Tokens
	lookups atomic.Int32
	after   atomic.Pointer[func()]
}

func (s *spy) SignIn(ctx context.Context, t im.TenantID, hash [32]byte) (store.SignIn, error) {
	s.lookups.Add(1)
	found, err := s.Tokens.SignIn(ctx, t, hash)
	if fn := s.after.Load(); fn != nil {
		(*fn)()
	}
	return found, err
}

func TestVerify(t *testing.T) {
	tokens := &spy{}
	b := newBench(t, func(o *Options) { tokens.Tokens, o.Tokens = o.Tokens, tokens })
	token := b.issue(ann)
	if len(token) != len("pt_oak_")+secretLen || !strings.HasPrefix(token, "pt_oak_") {
		t.Fatalf("token of %d bytes, %q…", len(token), token[:7])
	}
	// It was issued here, so it is known; after a restart it is looked up, once.
	if !b.accepted(token) || tokens.lookups.Load() != 0 {
		t.Fatalf("%d look-ups", tokens.lookups.Load())
	}
	b.cache.purge([][32]byte{sum(token)})
	if _, _, hit, err := b.VerifyCached(token); hit || err != nil {
		t.Fatalf("unknown token: hit %v, %v", hit, err)
	}
	for range 3 {
		if !b.accepted(token) || tokens.lookups.Load() != 1 {
			t.Fatalf("%d look-ups", tokens.lookups.Load())
		}
	}
	actor, user, hit, err := b.VerifyCached(token)
	if !hit || err != nil || user.ID != ann || actor.User != ann || actor.Tenant != oak || actor.Role != im.RoleStaff {
		t.Fatalf("hit %v, %+v, %+v, %v", hit, actor, user, err)
	}
	// The role is that of now.
	b.users.set(oak, ann, func(u *im.User) { u.Role = im.RoleGuest })
	if actor, user, _, _ := b.VerifyCached(token); actor.Role != im.RoleGuest || user.Role != im.RoleGuest {
		t.Fatalf("role %v", actor.Role)
	}

	for what, bad := range map[string]struct {
		token   string
		lookups int32
	}{
		"empty":            {"", 0},
		"no token":         {"abc", 0},
		"prefix":           {"px_" + token[3:], 0},
		"too short":        {"pt__" + strings.Repeat("a", secretLen), 0},
		"too long":         {"pt_" + strings.Repeat("a", im.MaxIDBytes+1) + "_" + strings.Repeat("a", secretLen), 0},
		"very long":        {strings.Repeat("pt_oak_", 10000), 0},
		"tenant not there": {"pt_ash_" + strings.Repeat("a", secretLen), 0},
		"not a tenant":     {"pt_../\x00_" + strings.Repeat("a", secretLen), 0},
		"other tenant":     {"pt_elm_" + token[len(token)-secretLen:], 1},
		"last bit":         {token[:len(token)-1] + string(token[len(token)-1]^1), 1},
		"made up":          {"pt_oak_" + strings.Repeat("a", secretLen), 1},
		"hash":             {"pt_oak_" + hex.EncodeToString(make([]byte, 21)) + "a", 1},
	} {
		tokens.lookups.Store(0)
		_, _, err := b.Verify(t.Context(), bad.token)
		wantKind(t, err, im.Unauthenticated, "")
		if CloseCode(err) != 4101 || !errors.Is(err, ErrToken) || tokens.lookups.Load() != bad.lookups {
			t.Errorf("%s: %v, %d look-ups", what, err, tokens.lookups.Load())
		}
	}

	b.users.set(oak, ann, func(u *im.User) { u.Disabled = true })
	_, _, err = b.Verify(t.Context(), token)
	wantKind(t, err, im.Unauthenticated, "")
	if CloseCode(err) != 4102 {
		t.Fatalf("disabled: %v, code %d", err, CloseCode(err))
	}
	_, _, err = b.Issue(t.Context(), oak, ann, "")
	wantKind(t, err, im.Forbidden, "")
	b.users.set(oak, ann, func(u *im.User) { u.Disabled = false })
	b.users.suspend(oak, true)
	_, _, err = b.Verify(t.Context(), token)
	wantKind(t, err, im.Unauthenticated, "")
	if CloseCode(err) != 4202 {
		t.Fatalf("suspended: %v, code %d", err, CloseCode(err))
	}
	_, _, err = b.Issue(t.Context(), oak, ann, "")
	wantKind(t, err, im.Forbidden, "")
	b.users.suspend(oak, false)
	if !b.accepted(token) {
		t.Fatal("not accepted any more after the user was let in again")
	}
	b.users.erase(oak)
	if b.accepted(token) {
		t.Fatal("accepted in a tenant that is gone")
	}
	_, _, err = b.Issue(t.Context(), oak, ann, "")
	wantKind(t, err, im.NotFound, "user")
}

// Of a token only the hash is kept.
func TestTokenIsNotStored(t *testing.T) {
	b := newBench(t, nil)
	token := b.issue(ann)
	all, err := b.store.SignIns(t.Context(), oak, ann)
	if err != nil || len(all) != 1 || all[0].Hash != sum(token) || all[0].ID != b.signInOf(token) {
		t.Fatalf("stored %+v, %v", all, err)
	}
	if strings.Contains(fmt.Sprintf("%+v", all), token[len(token)-secretLen:]) {
		t.Fatal("the store holds the token")
	}
}

// The order in which a sign-in ends: deleted, forgotten, told.
func TestRevoke(t *testing.T) {
	b := newBench(t, nil)
	one, two, bobs := b.issue(ann), b.issue(ann), b.issue(bob)
	id := b.signInOf(one)
	b.tell = func(e []Ended) {
		left, err := b.store.SignIns(t.Context(), oak, ann)
		if err != nil || len(left) != 1 {
			t.Errorf("when it was told %d were stored, %v", len(left), err)
		}
		if _, _, hit, _ := b.VerifyCached(one); hit {
			t.Error("when it was told it was still remembered")
		}
	}
	if err := b.Revoke(t.Context(), oak, ann, id); err != nil {
		t.Fatal(err)
	}
	b.tell = nil
	if len(b.told) != 1 || b.told[0] != (Ended{Tenant: oak, User: ann, SignIn: id, Code: 4101}) {
		t.Fatalf("told %+v", b.told)
	}
	if b.accepted(one) || !b.accepted(two) || !b.accepted(bobs) {
		t.Fatal("the wrong ones ended")
	}
	wantKind(t, b.Revoke(t.Context(), oak, ann, id), im.NotFound, "")
	wantKind(t, b.Revoke(t.Context(), oak, ann, b.signInOf(bobs)), im.NotFound, "")
	wantKind(t, b.Revoke(t.Context(), elm, ann, b.signInOf(two)), im.NotFound, "")

	three := b.issue(ann)
	if err := b.RevokeUser(t.Context(), oak, ann); err != nil {
		t.Fatal(err)
	}
	if b.accepted(two) || b.accepted(three) || !b.accepted(bobs) || len(b.told) != 3 {
		t.Fatalf("the wrong ones ended, told %+v", b.told)
	}
	elms, _, err := b.Issue(t.Context(), elm, ann, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.RevokeTenant(t.Context(), oak); err != nil {
		t.Fatal(err)
	}
	if b.accepted(bobs) || !b.accepted(elms) || len(b.told) != 4 || b.Stats().Ended != 4 {
		t.Fatalf("the wrong ones ended, told %+v", b.told)
	}
	if err := b.RevokeTenant(t.Context(), oak); err != nil || len(b.told) != 4 {
		t.Fatalf("nothing to end, told %+v, %v", b.told, err)
	}
}

// A look-up that read the sign-in before it was revoked neither accepts nor
// remembers it afterwards.
func TestRevokedWhileLookedUp(t *testing.T) {
	tokens := &spy{}
	b := newBench(t, func(o *Options) { tokens.Tokens, o.Tokens = o.Tokens, tokens })
	token := b.issue(ann)
	id := b.signInOf(token)
	b.cache.purge([][32]byte{sum(token)})
	var once sync.Once
	revoke := func() {
		once.Do(func() {
			if err := b.Revoke(t.Context(), oak, ann, id); err != nil {
				t.Error(err)
			}
		})
	}
	tokens.after.Store(&revoke)
	if b.accepted(token) {
		t.Error("accepted after it was revoked")
	}
	if _, _, hit, _ := b.VerifyCached(token); hit || b.Stats().Cached != 0 {
		t.Error("remembered after it was revoked")
	}
	if tokens.lookups.Load() != 2 {
		t.Errorf("%d look-ups", tokens.lookups.Load())
	}
}

// However often others sign out meanwhile, a good token is accepted.
func TestVerifyAmidRevocations(t *testing.T) {
	tokens := &spy{}
	b := newBench(t, func(o *Options) { tokens.Tokens, o.Tokens = o.Tokens, tokens })
	token := b.issue(ann)
	b.cache.purge([][32]byte{sum(token)})
	others := func() {
		if err := b.Revoke(t.Context(), oak, bob, b.signInOf(b.issue(bob))); err != nil {
			t.Error(err)
		}
	}
	tokens.after.Store(&others)
	if !b.accepted(token) {
		t.Error("not accepted")
	}
	tokens.after.Store(nil)
	if _, _, hit, _ := b.VerifyCached(token); hit {
		t.Error("remembered what may have been revoked")
	}
}

// Many look up, sign in and revoke at once; who was revoked is never remembered.
func TestRevokeRacesVerify(t *testing.T) {
	b := newBench(t, nil)
	for round := range 200 {
		token := b.issue(ann)
		id := b.signInOf(token)
		if round%2 == 0 {
			b.cache.purge([][32]byte{sum(token)})
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 5 {
					b.accepted(token)
				}
			})
		}
		wg.Go(func() {
			if err := b.Revoke(t.Context(), oak, ann, id); err != nil {
				t.Error(err)
			}
			if _, _, hit, _ := b.VerifyCached(token); hit {
				t.Error("remembered after it was revoked")
			}
		})
		wg.Wait()
		if _, _, hit, _ := b.VerifyCached(token); hit || b.accepted(token) {
			t.Fatalf("round %d: accepted after it was revoked", round)
		}
	}
}

// A sign-in lasts for running time of the box, whatever the clock says.
func TestExpiry(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Lifetime = 10 * time.Hour })
	first, second := b.issue(ann), ""
	for i, leap := range []time.Duration{-57 * 365 * 24 * time.Hour, 113 * 365 * 24 * time.Hour, -365 * 24 * time.Hour, 90 * 24 * time.Hour, -90 * 24 * time.Hour} {
		b.wall.Add(leap.Milliseconds())
		b.store.AddAge(time.Hour)
		if i%2 == 0 {
			b.cache.purge([][32]byte{sum(first)})
		}
		if n, err := b.Expire(t.Context()); n != 0 || err != nil || !b.accepted(first) {
			t.Fatalf("a leap of %v signed %d out, %v", leap, n, err)
		}
		second = b.issue(bob)
	}
	b.store.AddAge(5*time.Hour - 1)
	list, err := b.Auth.SignIns(t.Context(), oak, ann)
	if !b.accepted(first) || err != nil || len(list) != 1 || list[0].Expires != im.Millis(b.store.Now().UnixMilli()) {
		t.Fatalf("before its time: %+v, %v", list, err)
	}
	b.store.AddAge(1)
	if b.accepted(first) {
		t.Fatal("accepted from memory after its lifetime")
	}
	b.cache.purge([][32]byte{sum(first)})
	if b.accepted(first) {
		t.Fatal("accepted from the store after its lifetime")
	}
	if list, err := b.Auth.SignIns(t.Context(), oak, ann); err != nil || len(list) != 0 {
		t.Fatalf("listed after its lifetime: %+v, %v", list, err)
	}
	if !b.accepted(second) {
		t.Fatal("a younger one ended too")
	}
	b.told = nil
	if n, err := b.Expire(t.Context()); n != 1 || err != nil || len(b.told) != 1 || b.told[0].User != ann || b.told[0].Code != 4101 {
		t.Fatalf("%d expired, told %+v, %v", n, b.told, err)
	}
	if left, err := b.store.SignIns(t.Context(), oak, ann); err != nil || len(left) != 0 || b.Stats().Expired != 1 {
		t.Fatalf("%d stored, %v", len(left), err)
	}
	// A power cut may take back the last minute of the age.
	young := b.issue(ann)
	b.store.AddAge(-time.Minute)
	if !b.accepted(young) {
		t.Fatal("a sign-in from the future is not accepted")
	}
}

func TestOldestSignInGivesWay(t *testing.T) {
	b := newBench(t, nil)
	tokens := make([]string, MaxSignIns+3)
	for i := range tokens {
		tokens[i] = b.issue(ann)
		b.store.AddAge(time.Second)
	}
	bobs := b.issue(bob)
	for i, token := range tokens {
		if b.accepted(token) != (i >= 3) {
			t.Fatalf("sign-in %d accepted: %v", i, i < 3)
		}
	}
	if !b.accepted(bobs) || len(b.told) != 3 {
		t.Fatalf("told %+v", b.told)
	}
	list, err := b.Auth.SignIns(t.Context(), oak, ann)
	if err != nil || len(list) != MaxSignIns || list[0].ID != b.signInOf(tokens[len(tokens)-1]) {
		t.Fatalf("%d sign-ins, %v", len(list), err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Cached = 10 })
	var tokens []string
	for range 40 {
		tokens = append(tokens, b.issue(ann))
	}
	if n := b.Stats().Cached; n != 10 {
		t.Fatalf("%d remembered", n)
	}
	for _, token := range tokens {
		if !b.accepted(token) {
			t.Fatal("what was forgotten is not accepted")
		}
	}
	if n := b.Stats().Cached; n != 10 {
		t.Fatalf("%d remembered", n)
	}
}

func TestIssueMany(t *testing.T) {
	b := newBench(t, nil)
	tokens, err := b.IssueMany(t.Context(), oak, []im.UserID{ann, bob, ann}, "load")
	if err != nil || len(tokens) != 3 {
		t.Fatalf("%d tokens, %v", len(tokens), err)
	}
	for i, u := range []im.UserID{ann, bob, ann} {
		if actor, _, err := b.Verify(t.Context(), tokens[i]); err != nil || actor.User != u {
			t.Fatalf("token %d: %+v, %v", i, actor, err)
		}
	}
	_, err = b.IssueMany(t.Context(), oak, []im.UserID{ann, "u_x"}, "load")
	wantKind(t, err, im.NotFound, "user")
	_, err = b.IssueMany(t.Context(), oak, []im.UserID{ann}, "a\nb")
	wantKind(t, err, im.Invalid, "device")
}

// A hello that is judged on a loop allocates nothing.
func TestVerifyCachedAllocatesNothing(t *testing.T) {
	b := newBench(t, nil)
	token := b.issue(ann)
	n := testing.AllocsPerRun(1000, func() {
		if _, _, hit, err := b.VerifyCached(token); !hit || err != nil {
			t.Error(hit, err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("")
	f.Add("pt_oak_" + strings.Repeat("a", secretLen))
	f.Add("pt_" + strings.Repeat("_", secretLen+3))
	f.Add("pt_" + strings.Repeat("a", im.MaxIDBytes+1) + "_" + strings.Repeat("a", secretLen))
	f.Fuzz(func(t *testing.T, token string) {
		tenant, hash, ok := parseToken(token)
		if !ok {
			return
		}
		if len(tenant) < 1 || len(tenant) > im.MaxIDBytes || hash != sum(token) || !strings.HasPrefix(token, "pt_"+string(tenant)+"_") {
			t.Fatalf("%q is a token for %q", token, tenant)
		}
	})
}

func BenchmarkVerifyCached(b *testing.B) {
	t := newBench(b, nil)
	token := t.issue(ann)
	for b.Loop() {
		t.VerifyCached(token)
	}
}

func BenchmarkVerifyLoaded(b *testing.B) {
	t := newBench(b, nil)
	token := t.issue(ann)
	for b.Loop() {
		t.cache.purge([][32]byte{sum(token)})
		if _, _, err := t.Verify(context.Background(), token); err != nil {
			b.Fatal(err)
		}
	}
}
