package auth

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/pipit-im/pipit/pkg/im"
)

// app is ann's authenticator.
func (b *bench) app(secret string) string {
	b.t.Helper()
	code, err := totp.GenerateCode(secret, b.store.Now())
	if err != nil {
		b.t.Fatal(err)
	}
	return code
}

// secondStep sets ann's password and second step up, from home.
func (b *bench) secondStep() (secret string, recovery []string) {
	b.t.Helper()
	b.password(ann, good)
	setup, err := b.BeginTOTP(b.t.Context(), oak, ann)
	if err == nil {
		recovery, err = b.ConfirmTOTP(b.t.Context(), oak, ann, b.app(setup.Secret), home)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.wall.Add(60_000) // that code is used up
	if _, err := b.Auth.SignIn(b.t.Context(), SignInRequest{Tenant: oak, Username: "ann", Password: good, TOTP: b.app(setup.Secret), Addr: home}); err != nil {
		b.t.Fatal(err)
	}
	b.wall.Add(60_000)
	return setup.Secret, recovery
}

// 10,000 guesses at a code of ann, by somebody who has her password or token, in an
// hour and from 100 addresses or one: a handful are judged, and ann herself is let
// through from where she was.
func TestGuessingCodes(t *testing.T) {
	ways := map[string]func(b *bench, code string, addr netip.Addr) error{
		"at sign-in": func(b *bench, code string, addr netip.Addr) error {
			_, err := b.Auth.SignIn(b.t.Context(), SignInRequest{Tenant: oak, Username: "ann", Password: good, TOTP: code, Addr: addr})
			return err
		},
		"to remove it": func(b *bench, code string, addr netip.Addr) error {
			return b.CheckSecondFactor(b.t.Context(), oak, ann, code, addr)
		},
		"to confirm another": func(b *bench, code string, addr netip.Addr) error {
			_, err := b.ConfirmTOTP(b.t.Context(), oak, ann, code, addr)
			return err
		},
	}
	for way, try := range ways {
		for name, from := range map[string]func(i int) netip.Addr{
			"from many": func(i int) netip.Addr { return attackers()[i%100] },
			"from one":  func(int) netip.Addr { return attackers()[0] },
		} {
			t.Run(way+" "+name, func(t *testing.T) {
				b := newBench(t, nil)
				secret, recovery := b.secondStep()
				if way == "to confirm another" {
					setup, err := b.BeginTOTP(t.Context(), oak, ann)
					if err != nil {
						t.Fatal(err)
					}
					secret, recovery = setup.Secret, nil
				}
				before := b.Stats()
				for i := range 10_000 {
					b.store.AddAge(time.Hour / 10_000)
					guess := fmt.Sprintf("%06d", i)
					if i%2 == 1 {
						guess = fmt.Sprintf("aaaa-bbbb-cccc-%04d", i) // as a recovery code
					}
					if guess == b.app(secret) {
						continue
					}
					if err := try(b, guess, from(i)); err == nil || !im.Is(err, im.RateLimited) && !im.Is(err, im.Invalid) && !im.Is(err, im.Unauthenticated) {
						t.Fatalf("guess %d: %v", i, err)
					}
				}
				if judged := b.Stats().Wrong - before.Wrong; judged < 5 || judged > 10 {
					t.Errorf("%d guesses were judged", judged)
				}
				if err := try(b, b.app(secret), home); err != nil {
					t.Errorf("her own code, from home: %v", err)
				}
				if recovery != nil {
					if err := try(b, recovery[2], home); err != nil {
						t.Errorf("her recovery code: %v", err)
					}
					if err := try(b, recovery[2], home); err == nil {
						t.Error("a recovery code counts twice")
					}
				}
			})
		}
	}
}

// What wrong codes take away, passwords have no more, and the other way round: who
// has both to guess has one share for both.
func TestGuessesShareALane(t *testing.T) {
	b := newBench(t, nil)
	secret, _ := b.secondStep()
	for range 5 {
		if err := b.CheckSecondFactor(t.Context(), oak, ann, "000000", attackers()[0]); !im.Is(err, im.Invalid) {
			t.Fatal(err)
		}
	}
	_, err := b.SignIn("ann", "guess", attackers()[1])
	wantKind(t, err, im.RateLimited, "")
	err = b.CheckSecondFactor(t.Context(), oak, ann, b.app(secret), attackers()[2])
	wantKind(t, err, im.RateLimited, "")
}

// Codes of invitations and login cards, and passkeys, name no account: they are
// counted by address, and who has a good one elsewhere is not held up.
func TestGuessingInvitations(t *testing.T) {
	for what, try := range map[string]func(b *bench, code string, addr netip.Addr) error{
		"look": func(b *bench, code string, addr netip.Addr) error {
			_, err := b.Invited(b.t.Context(), oak, code, addr)
			return err
		},
		"use": func(b *bench, code string, addr netip.Addr) error {
			_, err := b.UseInvitation(b.t.Context(), oak, code, addr)
			return err
		},
		"passkey": func(b *bench, code string, addr netip.Addr) error {
			_, err := b.PasskeySignIn(b.t.Context(), code, []byte(`{}`), "", addr)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, func(o *Options) { o.Limits.ChecksPerMinutePerAddr = 10 })
			codes, err := b.Invite(t.Context(), oak, []Invitation{{Role: im.RoleMember}})
			if err != nil {
				t.Fatal(err)
			}
			judged := 0
			for i := range 10_000 {
				b.store.AddAge(time.Hour / 10_000)
				err := try(b, fmt.Sprintf("AAAA-BBBB-CCCC-%04d", i), home)
				if err == nil {
					t.Fatal("got in")
				}
				if !im.Is(err, im.RateLimited) {
					judged++
				}
			}
			if judged < 600 || judged > 611 { // ten at once, ten a minute
				t.Errorf("%d were looked at", judged)
			}
			if what == "passkey" {
				return
			}
			if err := try(b, codes[0], attackers()[0]); err != nil {
				t.Errorf("the invited, elsewhere: %v", err)
			}
		})
	}
}
