package auth

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// SignInRequest is what POST /v1/sessions brings (PROTOCOL 9.2).
type SignInRequest struct {
	Tenant   im.TenantID
	Username string
	Password string
	Device   string     // what the client calls itself, for people; may be empty
	Addr     netip.Addr // where it comes from, for throttling
	// TOTP is a code of the authenticator app or a recovery code, NewPassword the
	// one to replace a password that somebody else gave: answers to a Challenge.
	TOTP        string
	NewPassword string
}

// Granted is a sign-in that was made.
type Granted struct {
	Token   string
	Expires im.Millis // if the clock does not leap and the box is not switched off
	User    im.User
	// Recovery holds the recovery codes of a second factor that was set up with
	// this sign-in; they are shown this once.
	Recovery []string
}

// SignIn judges a password, and a second factor where there is one, and makes a
// sign-in. It takes as long as a hash, plus the wait for one. Errors:
//
//   - *Challenge (im.Unauthenticated): the password is right, and something more
//     is needed; the attempt counts for nothing.
//   - im.Unauthenticated: tenant or user unknown, suspended or disabled, or the
//     password is wrong: one answer, one cost (PROTOCOL 2.3).
//   - im.RateLimited with RetryAfter: too many for this account, from this
//     address, or waiting at all. The password was not judged.
//   - im.Invalid, field device or password: longer than can be.
//   - those of the store.
func (a *Auth) SignIn(ctx context.Context, r SignInRequest) (Granted, error) {
	fail := func(err error) (Granted, error) { return Granted{}, err }
	if err := checkDevice(r.Device); err != nil {
		return fail(err)
	}
	if len(r.Password) > im.MaxPasswordBytes {
		return fail(im.E(im.Invalid, "A password has at most %d bytes.", im.MaxPasswordBytes).OnField("password"))
	}
	user := a.signInUser(r.Tenant, r.Username)
	acc := accountKey{tenant: r.Tenant, name: typedName(r.Username)}
	if user != nil {
		acc.name = string(user.ID)
	}
	try, retry, byAddr := a.throttle.admit(acc, r.Addr)
	if retry > 0 {
		if byAddr {
			a.stats.limitedByAddr.Add(1)
		} else {
			a.stats.limitedByAccount.Add(1)
		}
		return fail(tooMany(retry))
	}
	done := unjudged
	defer func() { a.throttle.settle(try, done) }()

	phc, ok, err := a.judgePassword(ctx, r.Addr, r.Tenant, user, normal(r.Password))
	switch {
	case err != nil:
		return fail(im.Wrap("auth: sign in to tenant "+string(r.Tenant), err))
	case !ok:
		done = wrong
		a.stats.wrong.Add(1)
		a.logRefused(user)
		return fail(wrongPassword())
	}
	ok, recovery, err := a.secondFactor(ctx, user, &r)
	switch {
	case err != nil: // a challenge, mostly: neither right nor wrong
		return fail(err)
	case !ok:
		done = wrong
		a.stats.wrong.Add(1)
		a.logRefused(user)
		return fail(wrongCode(a))
	}
	password := normal(r.Password)
	if r.NewPassword != "" {
		if password, phc, err = a.replacePassword(ctx, user, r.NewPassword); err != nil {
			return fail(err)
		}
	}
	done = right
	token, expires, id, hash, err := a.issue(ctx, user, r.Device)
	if err != nil {
		return fail(err)
	}
	// Whoever changed the password, disabled the user or erased the tenant while the
	// password was judged may have been through before this sign-in was stored: it
	// must not outlive them. Looking after storing finds all of that.
	if err := a.confirm(ctx, r.Addr, user, password, phc); err != nil {
		if _, failed := a.end(ctx, user.Tenant, user.ID, func(s store.SignIn) bool { return s.Hash == hash }); failed != nil {
			// Nobody has the token; it ends when it expires.
			a.log.Info("sign-in not taken back", "tenant", string(user.Tenant), "user", string(user.ID), "error", failed)
		}
		return fail(err)
	}
	a.stats.signIns.Add(1)
	a.log.Info("signed in", "tenant", string(user.Tenant), "user", string(user.ID), "sign_in", string(id))
	return Granted{Token: token, Expires: expires, User: *user, Recovery: recovery}, nil
}

func wrongCode(a *Auth) error {
	return im.E(im.Unauthenticated, "%s", a.wrongCodeText()).OnField(ChallengeTOTP)
}

// signInUser returns who may sign in under that name, nil if nobody.
func (a *Auth) signInUser(t im.TenantID, username string) *im.User {
	u, ok := a.users.ByUsername(t, username)
	if !ok || !a.open(t, u.ID) {
		return nil
	}
	return u
}

// open reports whether a user is there and neither disabled nor in a suspended
// tenant.
func (a *Auth) open(t im.TenantID, u im.UserID) bool {
	ten, ok := a.users.Tenant(t)
	if !ok || ten.Suspended {
		return false
	}
	user, ok := a.users.User(t, u)
	return ok && !user.Disabled
}

// judgePassword reports whether password is the user's, and the hash that says
// so. A nil user has none: that is found out at the same cost.
func (a *Auth) judgePassword(ctx context.Context, from netip.Addr, t im.TenantID, user *im.User, password string) (phc string, ok bool, err error) {
	if user != nil {
		c, err := a.people.Credential(ctx, t, user.ID)
		if err != nil && !im.Is(err, im.NotFound) {
			return "", false, err
		}
		phc = c.PHC
	}
	ok, weak, err := a.hasher.check(ctx, from, password, phc)
	ok = ok && phc != ""
	if ok && weak {
		phc = a.rehash(ctx, from, user, password, phc)
	}
	return phc, ok, err
}

// confirm looks whether the user may still sign in, and the password that was
// judged against phc is still the one.
func (a *Auth) confirm(ctx context.Context, from netip.Addr, user *im.User, password, phc string) error {
	if !a.open(user.Tenant, user.ID) {
		return wrongPassword()
	}
	c, err := a.people.Credential(ctx, user.Tenant, user.ID)
	if err != nil {
		return im.Wrap("auth: confirm a sign-in", err)
	}
	if c.PHC == phc {
		return nil
	}
	// Another sign-in may only have hashed it anew.
	ok, _, err := a.hasher.check(ctx, from, password, c.PHC)
	if err != nil {
		return im.Wrap("auth: confirm a sign-in", err)
	}
	if !ok || c.PHC == "" {
		return wrongPassword()
	}
	return nil
}

func wrongPassword() error {
	return im.E(im.Unauthenticated, "The user name or the password is wrong.")
}

// logRefused says who was refused if that is somebody: not the name that was
// typed, which may be a password in the wrong field.
func (a *Auth) logRefused(user *im.User) {
	if user != nil {
		a.log.Info("sign-in refused", "tenant", string(user.Tenant), "user", string(user.ID))
	} else {
		a.log.Info("sign-in refused, nobody may sign in under that name")
	}
}

// typedName makes the spellings of a name that nobody has one, so that it is
// throttled as if somebody had it.
func typedName(s string) string {
	if len(s) > 4*im.MaxUsernameBytes {
		s = s[:4*im.MaxUsernameBytes]
	}
	return strings.ToLower(norm.NFKC.String(strings.TrimSpace(s)))
}

func checkDevice(device string) error {
	if utf8.RuneCountInString(device) > MaxDeviceRunes || !utf8.ValidString(device) || strings.ContainsFunc(device, unicode.IsControl) {
		return im.E(im.Invalid, "A device has a name of at most %d characters, without line breaks.", MaxDeviceRunes).OnField("device")
	}
	return nil
}

// Issue makes a sign-in without a password, for the operator of the box. Errors:
// im.NotFound if the user or tenant is unknown, im.Forbidden if one of them is
// shut, im.Invalid (field device), and those of the store.
func (a *Auth) Issue(ctx context.Context, t im.TenantID, u im.UserID, device string) (token string, expires im.Millis, err error) {
	token, expires, err = a.issueOpen(ctx, t, u, device)
	if err == nil {
		a.log.Info("token issued", "tenant", string(t), "user", string(u))
	}
	return token, expires, err
}

func (a *Auth) issueOpen(ctx context.Context, t im.TenantID, u im.UserID, device string) (token string, expires im.Millis, _ error) {
	if err := checkDevice(device); err != nil {
		return "", 0, err
	}
	user, ok := a.users.User(t, u)
	switch {
	case !ok:
		return "", 0, im.E(im.NotFound, "There is no such user.").OnField("user")
	case !a.open(t, u):
		return "", 0, im.E(im.Forbidden, "The user is disabled, or the tenant suspended.")
	}
	token, expires, _, _, err := a.issue(ctx, user, device)
	if err == nil {
		a.stats.issued.Add(1)
	}
	return token, expires, err
}

// IssueMany is Issue for many users at once, so that the store can share its
// flushes: one token for each, in order, or the first error; tokens of those
// before it are in no hands then and end when they expire.
func (a *Auth) IssueMany(ctx context.Context, t im.TenantID, users []im.UserID, device string) ([]string, error) {
	tokens := make([]string, len(users))
	errs := make([]error, len(users))
	parallel(len(users), func(i int) { tokens[i], _, errs[i] = a.issueOpen(ctx, t, users[i], device) })
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	a.log.Info("tokens issued", "tenant", string(t), "tokens", len(tokens))
	return tokens, nil
}

// issue stores a sign-in and makes room for it among the user's others.
func (a *Auth) issue(ctx context.Context, user *im.User, device string) (token string, expires im.Millis, id im.SignInID, hash [32]byte, err error) {
	token, id, err = a.newToken(user.Tenant)
	if err != nil {
		return "", 0, "", hash, err
	}
	s := store.SignIn{ID: id, Tenant: user.Tenant, User: user.ID, Hash: hashToken(token), Device: device,
		Created: a.now(), CreatedAge: a.box.Age(), Lifetime: a.lifetime}
	gen := a.cache.begin()
	if err := a.tokens.PutSignIn(ctx, s); err != nil {
		return "", 0, "", hash, im.Wrap("auth: store a sign-in of "+string(user.Tenant)+"/"+string(user.ID), err)
	}
	// The client comes back with it at once. If something was revoked meanwhile it
	// is looked up then.
	a.cache.put(s.Hash, a.remember(&s), gen)
	if err := a.crowdOut(ctx, user); err != nil {
		return "", 0, "", hash, err
	}
	return token, s.Created + im.Millis(s.Lifetime.Milliseconds()), id, s.Hash, nil
}

// crowdOut ends the oldest sign-ins of a user who has more than MaxSignIns.
func (a *Auth) crowdOut(ctx context.Context, user *im.User) error {
	all, err := a.tokens.SignIns(ctx, user.Tenant, user.ID)
	if err != nil {
		return im.Wrap("auth: list the sign-ins of "+string(user.Tenant)+"/"+string(user.ID), err)
	}
	if len(all) <= MaxSignIns {
		return nil
	}
	sortOldestFirst(all)
	surplus := map[im.SignInID]bool{}
	for _, s := range all[:len(all)-MaxSignIns] {
		surplus[s.ID] = true
	}
	_, err = a.end(ctx, user.Tenant, user.ID, func(s store.SignIn) bool { return surplus[s.ID] })
	return err
}

// sortOldestFirst orders by age, and within one age (it is counted coarsely over
// a power cut) by clock and id.
func sortOldestFirst(all []store.SignIn) {
	slices.SortFunc(all, func(x, y store.SignIn) int {
		return cmp.Or(cmp.Compare(x.CreatedAge, y.CreatedAge), cmp.Compare(x.Created, y.Created), cmp.Compare(x.ID, y.ID))
	})
}

// SignedIn is one sign-in as its owner or an administrator sees it.
type SignedIn struct {
	ID      im.SignInID
	Device  string
	Created im.Millis
	Expires im.Millis // by the clock of now
}

// SignIns returns a user's sign-ins that have not expired, newest first. Errors:
// those of the store; an unknown user has none.
func (a *Auth) SignIns(ctx context.Context, t im.TenantID, u im.UserID) ([]SignedIn, error) {
	if _, ok := a.users.User(t, u); !ok {
		return nil, nil
	}
	all, err := a.tokens.SignIns(ctx, t, u)
	if err != nil {
		return nil, im.Wrap("auth: list the sign-ins of "+string(t)+"/"+string(u), err)
	}
	sortOldestFirst(all)
	slices.Reverse(all)
	age, now := a.box.Age(), a.now()
	out := make([]SignedIn, 0, len(all))
	for _, s := range all {
		if left := s.Lifetime - (age - s.CreatedAge); left > 0 {
			out = append(out, SignedIn{ID: s.ID, Device: s.Device, Created: s.Created, Expires: now + im.Millis(left.Milliseconds())})
		}
	}
	return out, nil
}

// Revoke ends one sign-in of a user, the caller's own (signing out) or another:
// when it returns, its token is not accepted any more, not even after a power cut,
// and Ended was called. Errors: im.NotFound if there is none, and those of the
// store.
func (a *Auth) Revoke(ctx context.Context, t im.TenantID, u im.UserID, id im.SignInID) error {
	n, err := a.end(ctx, t, u, func(s store.SignIn) bool { return s.ID == id })
	if err == nil && n == 0 {
		return im.E(im.NotFound, "There is no such sign-in.")
	}
	return err
}

// RevokeUser ends all sign-ins of a user, RevokeTenant all of a tenant, as Revoke
// does.
func (a *Auth) RevokeUser(ctx context.Context, t im.TenantID, u im.UserID) error {
	_, err := a.end(ctx, t, u, func(store.SignIn) bool { return true })
	return err
}

// RevokeOthers ends all sign-ins of a user but one.
func (a *Auth) RevokeOthers(ctx context.Context, t im.TenantID, u im.UserID, but im.SignInID) error {
	_, err := a.end(ctx, t, u, func(s store.SignIn) bool { return s.ID != but })
	return err
}

// RevokeTenant is described at RevokeUser.
func (a *Auth) RevokeTenant(ctx context.Context, t im.TenantID) error {
	_, err := a.end(ctx, t, "", func(store.SignIn) bool { return true })
	return err
}

// Expire ends the sign-ins that have outlived their lifetime, so that their
// sockets close (4101) and they take no room; they are refused without it too. To
// be called about once an hour. It returns how many there were.
func (a *Auth) Expire(ctx context.Context) (int, error) {
	tenants, err := a.people.Tenants(ctx)
	if err != nil {
		return 0, im.Wrap("auth: list tenants", err)
	}
	total := 0
	for _, t := range tenants {
		age := a.box.Age()
		n, err := a.end(ctx, t.ID, "", func(s store.SignIn) bool { return age-s.CreatedAge >= s.Lifetime })
		total += n
		a.stats.expired.Add(uint64(n))
		if err == nil {
			_, err = a.dropInvitations(ctx, t.ID, func(v *Invitation) bool { return v.expired(age) })
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// end deletes sign-ins, then forgets them, then tells of it: in this order, see
// VerifyCached. An empty user means all of the tenant. It returns how many.
func (a *Auth) end(ctx context.Context, t im.TenantID, u im.UserID, pick func(store.SignIn) bool) (int, error) {
	gone, err := a.tokens.DeleteSignIns(ctx, t, u, pick)
	if err != nil {
		return 0, im.Wrap("auth: end sign-ins of "+string(t)+"/"+string(u), err)
	}
	if len(gone) == 0 {
		return 0, nil
	}
	hashes := make([][32]byte, len(gone))
	ended := make([]Ended, len(gone))
	for i, s := range gone {
		hashes[i] = s.Hash
		ended[i] = Ended{Tenant: s.Tenant, User: s.User, SignIn: s.ID, Code: closeToken}
	}
	a.cache.purge(hashes)
	a.stats.ended.Add(uint64(len(gone)))
	a.ended(ended)
	a.log.Info("sign-ins ended", "tenant", string(t), "user", string(u), "sign_ins", len(gone))
	return len(gone), nil
}

func (a *Auth) now() im.Millis { return im.Millis(a.box.Now().UnixMilli()) }
