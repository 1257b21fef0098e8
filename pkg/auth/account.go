package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// TOTP as every authenticator app knows it (RFC 6238): SHA-1, six digits, steps
// of 30 s. A code counts for one step before and after now, each step once.
const (
	totpStep        = 30
	totpSkew        = 1
	totpSecretBytes = 20
	recoveryCodes   = 10
	recoveryBytes   = 10 // 16 characters of base32
)

// account is what is kept of a user's security beside the password.
type account struct {
	// MustChange: the password was given by somebody else and has to be replaced
	// at the next sign-in.
	MustChange bool `json:"must_change,omitempty"`
	// Secret is the TOTP secret in base32; Pending one that was shown and has not
	// been confirmed by a code yet.
	Secret  string `json:"totp,omitempty"`
	Pending string `json:"totp_pending,omitempty"`
	// Step is the newest step of which a code was taken: it and older ones don't
	// count any more (RFC 6238 §5.2).
	Step int64 `json:"totp_step,omitempty"`
	// Recovery holds the SHA-256 of the recovery codes that were not used yet.
	Recovery []string `json:"recovery,omitempty"`
	// Passkeys are the user's, see passkey.go.
	Passkeys []Passkey `json:"passkeys,omitempty"`
}

// Security is what a user, or an administrator, sees of an account.
type Security struct {
	Password      bool // one is set
	MustChange    bool
	TOTP          bool
	RecoveryCodes int // left
	Passkeys      []Passkey
}

func (a *Auth) account(ctx context.Context, t im.TenantID, u im.UserID) (acc account, _ error) {
	raw, err := a.records.Record(ctx, t, store.RecordAccount, string(u))
	if im.Is(err, im.NotFound) {
		return acc, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &acc)
	}
	return acc, im.Wrap("auth: read the account of "+string(t)+"/"+string(u), err)
}

// updateAccount changes an account in one step; fn may refuse. An account that
// says nothing any more is removed.
func (a *Auth) updateAccount(ctx context.Context, t im.TenantID, u im.UserID, fn func(*account) error) error {
	err := a.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		var acc account
		raw, err := tx.Get(store.RecordAccount, string(u))
		if err == nil {
			err = json.Unmarshal(raw, &acc)
		}
		if err != nil && !im.Is(err, im.NotFound) {
			return err
		}
		if err := fn(&acc); err != nil {
			return err
		}
		next, err := json.Marshal(acc)
		if err != nil {
			return err
		}
		if string(next) == "{}" {
			tx.Delete(store.RecordAccount, string(u))
			return nil
		}
		tx.Put(store.RecordAccount, string(u), next)
		return nil
	})
	return im.Wrap("auth: change the account of "+string(t)+"/"+string(u), err)
}

// Security returns what is set for a user. Errors: im.NotFound, and those of the
// store.
func (a *Auth) Security(ctx context.Context, t im.TenantID, u im.UserID) (Security, error) {
	if _, ok := a.users.User(t, u); !ok {
		return Security{}, im.E(im.NotFound, "There is no such user.").OnField("user")
	}
	acc, err := a.account(ctx, t, u)
	if err != nil {
		return Security{}, err
	}
	c, err := a.people.Credential(ctx, t, u)
	if err != nil && !im.Is(err, im.NotFound) {
		return Security{}, im.Wrap("auth: read a credential", err)
	}
	return Security{Password: c.PHC != "", MustChange: acc.MustChange, TOTP: acc.Secret != "", RecoveryCodes: len(acc.Recovery),
		Passkeys: acc.Passkeys}, nil
}

// Challenge is a sign-in whose password is right and that needs one thing more:
// the same request again, with Next answered. It is an im.Unauthenticated error.
type Challenge struct {
	cause *im.Error
	// Next is the member to add to the request.
	Next string
	// Setup is set with ChallengeTOTPSetup: what to put into the app first.
	Setup *TOTPSetup
}

func (c *Challenge) Error() string { return c.cause.Error() }

// Unwrap makes errors.As find the im.Error.
func (c *Challenge) Unwrap() error { return c.cause }

// What a challenge asks for.
const (
	ChallengeTOTP        = "totp"         // a code of the app, or a recovery code
	ChallengeTOTPSetup   = "totp_setup"   // the tenant wants a second factor: add the secret to an app, then its code as totp
	ChallengeNewPassword = "new_password" // the password was given by somebody else: choose one
)

func challenge(next, text string) *Challenge {
	return &Challenge{cause: im.E(im.Unauthenticated, "%s", text).OnField(next), Next: next}
}

// TOTPSetup is what an authenticator app needs. The secret is shown once.
type TOTPSetup struct {
	Secret string // base32
	URI    string // otpauth://totp/…, for a QR code
}

// secondFactor judges what goes with a right password. ok is false for a wrong
// code, which counts as a wrong password does. Whoever signs in with the last
// thing asked for gets in; recovery holds new recovery codes if TOTP was set up
// on the way.
func (a *Auth) secondFactor(ctx context.Context, user *im.User, r *SignInRequest) (ok bool, recovery []string, _ error) {
	acc, err := a.account(ctx, user.Tenant, user.ID)
	if err != nil {
		return false, nil, err
	}
	// A password of one's own is asked for before a code is used up, and a bad one
	// refused: the same code counts with it.
	asks := acc.MustChange && r.NewPassword == ""
	if r.NewPassword != "" {
		if err := a.checkReplacement(user, r.Password, r.NewPassword); err != nil {
			return true, nil, err
		}
	}
	switch {
	case acc.Secret != "" && r.TOTP == "":
		return true, nil, challenge(ChallengeTOTP, "Enter the code that your authenticator app shows, or one of your recovery codes.")
	case acc.Secret != "" && asks:
		ok = acc.second(r.TOTP, a.box.Now()) != nil
	case acc.Secret != "":
		ok, err = a.checkSecond(ctx, user.Tenant, user.ID, r.TOTP)
	case a.requireTOTP(user) && (acc.Pending == "" || r.TOTP == ""):
		setup, err := a.BeginTOTP(ctx, user.Tenant, user.ID)
		if err != nil {
			return true, nil, err
		}
		c := challenge(ChallengeTOTPSetup, "Your organisation asks for a second step. Add this account to an authenticator app, then enter the code that it shows.")
		c.cause.Field, c.Setup = ChallengeTOTP, &setup
		return true, nil, c
	case a.requireTOTP(user) && asks:
		_, ok = totpAt(acc.Pending, plainCode(r.TOTP), a.box.Now())
	case a.requireTOTP(user):
		recovery, err = a.confirmTOTP(ctx, user.Tenant, user.ID, r.TOTP)
		ok = err == nil
		if im.Is(err, im.Invalid) {
			err = nil
		}
	default:
		ok = true
	}
	if err != nil || !ok {
		return ok, nil, err
	}
	if asks {
		return true, nil, challenge(ChallengeNewPassword, "Choose a password of your own: the one you have was given to you.")
	}
	return true, recovery, nil
}

func (a *Auth) requireTOTP(u *im.User) bool { return a.wantTOTP != nil && a.wantTOTP(u) }

// checkSecond takes a code of the app or a recovery code, once.
func (a *Auth) checkSecond(ctx context.Context, t im.TenantID, u im.UserID, code string) (ok bool, _ error) {
	now := a.box.Now()
	err := a.updateAccount(ctx, t, u, func(acc *account) error {
		use := acc.second(code, now)
		if ok = use != nil; !ok {
			return im.E(im.Invalid, "wrong code") // stores nothing
		}
		use()
		return nil
	})
	if im.Is(err, im.Invalid) {
		return false, nil
	}
	return ok && err == nil, err
}

// second returns what uses up a code of the app or a recovery code; nil: it is wrong.
func (acc *account) second(code string, now time.Time) (use func()) {
	code = plainCode(code)
	if step, good := totpAt(acc.Secret, code, now); good && step > acc.Step {
		return func() { acc.Step = step }
	}
	i := slices.IndexFunc(acc.Recovery, func(h string) bool {
		return subtle.ConstantTimeCompare([]byte(h), []byte(hashRecovery(code))) == 1
	})
	if i < 0 {
		return nil
	}
	return func() { acc.Recovery = slices.Delete(acc.Recovery, i, i+1) }
}

// totpAt returns the step in which code is the app's, within the skew.
func totpAt(secret, code string, now time.Time) (step int64, ok bool) {
	if secret == "" || len(code) != 6 {
		return 0, false
	}
	at := now.Unix() / totpStep
	for s := at - totpSkew; s <= at+totpSkew; s++ {
		good, err := hotp.ValidateCustom(code, uint64(s), secret, hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err == nil && good {
			step, ok = s, true
		}
	}
	return step, ok
}

// plainCode drops what people type between the characters of a code.
func plainCode(code string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return -1
		}
		return r
	}, strings.ToUpper(code))
}

func hashRecovery(plain string) string {
	sum := sha256.Sum256([]byte("pipit recovery " + plain))
	return hex.EncodeToString(sum[:])
}

// BeginTOTP draws a secret for a user, which counts from when ConfirmTOTP saw a
// code of it; until then the former one does. Errors: im.NotFound, and those of
// the store.
func (a *Auth) BeginTOTP(ctx context.Context, t im.TenantID, u im.UserID) (TOTPSetup, error) {
	user, ok := a.users.User(t, u)
	if !ok {
		return TOTPSetup{}, im.E(im.NotFound, "There is no such user.").OnField("user")
	}
	var b [totpSecretBytes]byte
	if _, err := io.ReadFull(a.rand, b[:]); err != nil {
		return TOTPSetup{}, im.Wrap("auth: draw a secret", err)
	}
	secret := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])
	if err := a.updateAccount(ctx, t, u, func(acc *account) error { acc.Pending = secret; return nil }); err != nil {
		return TOTPSetup{}, err
	}
	ten, _ := a.users.Tenant(t)
	label := url.PathEscape(ten.Name + ":" + user.Username)
	q := url.Values{"secret": {secret}, "issuer": {ten.Name}}
	return TOTPSetup{Secret: secret, URI: "otpauth://totp/" + label + "?" + strings.ReplaceAll(q.Encode(), "+", "%20")}, nil
}

// ConfirmTOTP makes the secret of BeginTOTP count, and returns recovery codes,
// this once. A wrong code counts as a wrong password from addr does. Errors:
// im.Invalid (field totp) for a wrong code or without BeginTOTP, im.RateLimited,
// and those of the store.
func (a *Auth) ConfirmTOTP(ctx context.Context, t im.TenantID, u im.UserID, code string, addr netip.Addr) (codes []string, _ error) {
	err := a.guess(t, u, addr, func() (err error) {
		codes, err = a.confirmTOTP(ctx, t, u, code)
		return err
	})
	return codes, err
}

// guess judges a code of a user who is signed in. Six digits are found in an hour
// by who may try without end, and who stole a token and a password must not get
// through the second step that way: so wrong ones count against the account, in
// the same lane as passwords, and a right one neither takes that back nor makes
// the address known. judge answers im.Invalid for a wrong code.
func (a *Auth) guess(t im.TenantID, u im.UserID, addr netip.Addr, judge func() error) error {
	try, retry, byAddr := a.throttle.admit(accountKey{tenant: t, name: string(u)}, addr)
	if retry > 0 {
		if byAddr {
			a.stats.limitedByAddr.Add(1)
		} else {
			a.stats.limitedByAccount.Add(1)
		}
		return tooMany(retry)
	}
	done := unjudged
	defer func() { a.throttle.settle(try, done) }()
	err := judge()
	if im.Is(err, im.Invalid) {
		done = wrong
		a.stats.wrong.Add(1)
	}
	return err
}

// confirmTOTP is ConfirmTOTP for who counts guesses already.
func (a *Auth) confirmTOTP(ctx context.Context, t im.TenantID, u im.UserID, code string) ([]string, error) {
	codes, hashes := newRecovery()
	now, wrong := a.box.Now(), im.E(im.Invalid, "%s", a.wrongCodeText()).OnField(ChallengeTOTP)
	err := a.updateAccount(ctx, t, u, func(acc *account) error {
		step, ok := totpAt(acc.Pending, plainCode(code), now)
		if !ok {
			return wrong
		}
		acc.Secret, acc.Pending, acc.Step, acc.Recovery = acc.Pending, "", step, hashes
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.log.Info("second factor set up", "tenant", string(t), "user", string(u))
	return codes, nil
}

// wrongCodeText says why a code may be wrong though the app is right: it goes by
// the clock, and so does the box.
func (a *Auth) wrongCodeText() string {
	return "That code is wrong, or was used already. Codes go by the clock: this server's says " +
		a.box.Now().UTC().Format("2006-01-02 15:04") + " UTC."
}

// NewRecoveryCodes replaces a user's recovery codes and returns them, this once.
// Errors: im.Invalid without TOTP, and those of the store.
func (a *Auth) NewRecoveryCodes(ctx context.Context, t im.TenantID, u im.UserID) ([]string, error) {
	codes, hashes := newRecovery()
	err := a.updateAccount(ctx, t, u, func(acc *account) error {
		if acc.Secret == "" {
			return im.E(im.Invalid, "Set up an authenticator app first.").OnField(ChallengeTOTP)
		}
		acc.Recovery = hashes
		return nil
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// newRecovery draws recovery codes: as they are shown, and as they are kept.
func newRecovery() (codes, hashes []string) {
	for range recoveryCodes {
		var b [recoveryBytes]byte
		rand.Read(b[:]) // never fails (crypto/rand)
		plain := base32.StdEncoding.EncodeToString(b[:])
		codes = append(codes, strings.ToLower(plain[:4]+"-"+plain[4:8]+"-"+plain[8:12]+"-"+plain[12:]))
		hashes = append(hashes, hashRecovery(plain))
	}
	return codes, hashes
}

// ResetSecondFactor takes TOTP and recovery codes away, and passkeys if told so:
// the user's own wish, or an administrator's for who lost the telephone.
func (a *Auth) ResetSecondFactor(ctx context.Context, t im.TenantID, u im.UserID, passkeys bool) error {
	err := a.updateAccount(ctx, t, u, func(acc *account) error {
		acc.Secret, acc.Pending, acc.Step, acc.Recovery = "", "", 0, nil
		if passkeys {
			acc.Passkeys = nil
		}
		return nil
	})
	if err == nil {
		a.log.Info("second factor taken away", "tenant", string(t), "user", string(u))
	}
	return err
}

// CheckSecondFactor asks a user who is signed in for a code before something
// grave; without TOTP there is nothing to ask. A wrong code counts as a wrong
// password from addr does. Errors: im.Invalid (field totp), im.RateLimited, and
// those of the store.
func (a *Auth) CheckSecondFactor(ctx context.Context, t im.TenantID, u im.UserID, code string, addr netip.Addr) error {
	acc, err := a.account(ctx, t, u)
	if err != nil || acc.Secret == "" {
		return err
	}
	return a.guess(t, u, addr, func() error {
		ok, err := a.checkSecond(ctx, t, u, code)
		if err == nil && !ok {
			err = im.E(im.Invalid, "%s", a.wrongCodeText()).OnField(ChallengeTOTP)
		}
		return err
	})
}
