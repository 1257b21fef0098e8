package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/store/badgerstore"
	"github.com/pipit-im/pipit/pkg/wire"
)

const (
	peopleTenant   = "oakhill"
	peoplePassword = "nineteen brown owls"
)

// school makes a tenant of n people with a password, u0 …, and returns the token of
// one more. Hashing so many would take longer than the run: one is hashed by the
// server, as it does it, and the others get a copy of the hash.
func (b *bench) school(ctx context.Context, data string, n int) (token string, err error) {
	s, err := b.start(ctx, data)
	if err != nil {
		return "", err
	}
	if _, err = s.box.AddTenant(ctx, peopleTenant, "Oakhill"); err == nil {
		_, err = s.box.AddUser(ctx, peopleTenant, apiclient.NewPerson{Username: "first", Role: "staff", Password: peoplePassword})
	}
	var issued apiclient.IssuedToken
	if err == nil {
		issued, err = s.box.IssueToken(ctx, peopleTenant, "first")
	}
	if err = errors.Join(err, s.stop()); err != nil {
		return "", err
	}
	st, err := badgerstore.Open(badgerstore.Options{Dir: data, ScrubInterval: -1})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	users, err := st.Users(ctx, peopleTenant)
	if err != nil {
		return "", err
	}
	credential, err := st.Credential(ctx, peopleTenant, users[0].ID)
	if err != nil {
		return "", err
	}
	var together errgroup.Group
	together.SetLimit(64)
	for i := range n {
		together.Go(func() error {
			u := im.User{Tenant: peopleTenant, ID: im.UserID(fmt.Sprintf("u_%016d", i)), Username: fmt.Sprint("u", i), Name: fmt.Sprint("Person ", i), Role: im.RoleMember, Created: 1_790_000_000_000}
			if err := st.UpdateUser(ctx, peopleTenant, u.ID, func(*im.User) (*im.User, error) { return &u, nil }); err != nil {
				return err
			}
			return st.UpdateCredential(ctx, peopleTenant, u.ID, func(*store.Credential) (*store.Credential, error) { return &credential, nil })
		})
	}
	return issued.Token, together.Wait()
}

// pings asks a session for the time, twenty times a second, until stop is called,
// which returns how long the answers took.
func (s *server) pings(ctx context.Context, token string) (stop func() ([]time.Duration, error)) {
	c := client.New(client.Options{URL: "http://" + s.plain, Token: token, Name: "load", Once: true})
	ctx, cancel := context.WithCancel(ctx)
	var took []time.Duration
	ended := make(chan error, 1)
	go func() {
		defer c.Close()
		err := c.Wait(ctx)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for err == nil {
			began := time.Now()
			if err = c.Call(ctx, wire.MethodPing, nil, nil); err == nil {
				took = append(took, time.Since(began))
				select {
				case <-tick.C:
				case <-ctx.Done():
					err = ctx.Err()
				}
			}
		}
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		ended <- err
	}()
	return func() ([]time.Duration, error) {
		cancel()
		err := <-ended
		slices.Sort(took)
		return took, err
	}
}

// part returns the value of a sorted list below which that part of it is.
func part(of []time.Duration, p float64) time.Duration {
	if len(of) == 0 {
		return 0
	}
	return of[min(int(p*float64(len(of))), len(of)-1)]
}

// from is an HTTP client at an address of this machine's own loopback network, as
// if it was another device. It keeps no connection.
func from(addr net.IP) *http.Client {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: addr}}
	return &http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}, Timeout: 2 * time.Minute}
}

// signIn tries a password once. later is when to come again, where the server
// said so.
func (s *server) signIn(ctx context.Context, c *http.Client, user, password string) (in bool, later time.Duration, err error) {
	body, err := json.Marshal(map[string]string{"tenant": peopleTenant, "username": user, "password": password})
	if err != nil {
		return false, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.plain+"/v1/sessions", strings.NewReader(string(body)))
	if err != nil {
		return false, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return false, 0, err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return false, 0, err
	}
	switch resp.StatusCode {
	case http.StatusCreated:
		return true, 0, nil
	case http.StatusUnauthorized:
		return false, 0, nil
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		n, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		return false, time.Duration(n) * time.Second, err
	}
	return false, 0, fmt.Errorf("sign-in: %s: %s", resp.Status, said)
}

// measurePasswords lets 4000 people, each on a device of his own, sign in by
// password in the same moment; who is told to come back does so. All the while one
// address more guesses in 20 places at a time, whatever it is told, and a session
// that was there before asks for the time.
func measurePasswords(ctx context.Context, b *bench) (err error) {
	people := 4000
	if b.short {
		people = 400
	}
	data := filepath.Join(b.dir, "passwords")
	token, err := b.school(ctx, data, people)
	if err != nil {
		return err
	}
	s, err := b.start(ctx, data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	stopPings := s.pings(ctx, token)
	highest := s.watchAnon()

	storm, endStorm := context.WithCancel(ctx)
	defer endStorm()
	var guesses, judged atomic.Int64
	var guessers sync.WaitGroup
	for i := range 20 {
		c := from(net.IPv4(127, 200, 0, 1))
		guessers.Go(func() {
			for n := 0; storm.Err() == nil; n++ {
				in, later, err := s.signIn(storm, c, fmt.Sprintf("guess%d-%d", i, n), "a wrong one")
				guesses.Add(1)
				if err == nil && !in && later == 0 {
					judged.Add(1)
				}
				time.Sleep(100 * time.Millisecond) // it heeds nothing, but leaves this machine's cores to the others
			}
		})
	}
	var mu sync.Mutex
	var took []time.Duration
	var tries []int
	all, giveUp := errgroup.WithContext(storm)
	began := time.Now()
	for i := range people {
		all.Go(func() error {
			c := from(net.IPv4(127, 1, byte(i>>8), byte(i)))
			for n := 1; ; n++ {
				in, later, err := s.signIn(giveUp, c, fmt.Sprint("u", i), peoplePassword)
				switch {
				case err != nil:
					return err
				case in:
					mu.Lock()
					defer mu.Unlock()
					took, tries = append(took, time.Since(began)), append(tries, n)
					return nil
				case later == 0:
					return fmt.Errorf("u%d: the password was refused", i)
				}
				select {
				case <-time.After(later + rand.N(later)): // as a client does, not all in the same moment
				case <-giveUp.Done():
					return giveUp.Err()
				}
			}
		})
	}
	err = all.Wait()
	whole := time.Since(began)
	endStorm()
	guessers.Wait()
	anon := highest()
	pings, perr := stopPings()
	if err = errors.Join(err, perr); err != nil {
		return err
	}
	slices.Sort(took)
	slices.Sort(tries)
	half := len(took) / 2
	b.saw("passwords", float64(people-len(took)), "%d people, each at an address of his own: %.1f a second, half in after %.0f s, all after %.0f s; tries p50 %d, most %d. Meanwhile one address guessed %d times, and %d of it were judged",
		people, float64(people)/whole.Seconds(), took[half].Seconds(), whole.Seconds(), tries[half], tries[len(tries)-1], guesses.Load(), judged.Load())
	b.saw("passwordping", float64(part(pings, 0.99))/1e6, "%d pings of a session that was there: p50 %.1f ms, max %.0f ms; clients on the same cores", len(pings), float64(part(pings, 0.5))/1e6, float64(part(pings, 1))/1e6)
	b.saw("passwordanon", float64(anon)/mb, "the highest that was seen")
	return nil
}

// measureRoster imports a school of 4,000 people in 200 classes, from the dry run
// until everything is there, and once more, which must change nothing.
func measureRoster(ctx context.Context, b *bench) (err error) {
	const classes, students = 200, 19
	s, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if _, err = s.box.AddTenant(ctx, peopleTenant, "Oakhill"); err != nil {
		return err
	}
	var file strings.Builder
	file.WriteString("class,role,name,username\n")
	for c := range classes {
		fmt.Fprintf(&file, "k%d,teacher,Teacher %d,t%d\n", c, c, c)
		for i := range students {
			fmt.Fprintf(&file, "k%d,student,Student %d,s%d\n", c, c*students+i, c*students+i)
		}
	}
	options := apiclient.RosterOptions{Name: "school.csv"}
	run := func() (changes int, took time.Duration, err error) {
		began := time.Now()
		rep, err := s.box.PreviewRoster(ctx, peopleTenant, []byte(file.String()), options)
		if err != nil || rep.Wrong > 0 || rep.People != classes*(students+1) {
			return 0, 0, errors.Join(err, fmt.Errorf("%d people, %d wrong", rep.People, rep.Wrong))
		}
		if _, err = s.box.ImportRoster(ctx, peopleTenant, []byte(file.String()), options, rep.Digest); err != nil {
			return 0, 0, err
		}
		for {
			st, err := s.box.RosterStatus(ctx, peopleTenant)
			if err != nil || st.State == "idle" {
				if err == nil && st.Why != "" {
					err = errors.New(st.Why)
				}
				return len(rep.Changes), time.Since(began), err
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return 0, 0, ctx.Err()
			}
		}
	}
	n, took, err := run()
	if err != nil {
		return err
	}
	again, tookAgain, err := run()
	if err != nil {
		return err
	}
	anon, err := procStatus(s.pid(), "RssAnon")
	if err != nil {
		return err
	}
	b.saw("roster", took.Seconds(), "%d changes, without passwords; again: %d changes in %.1f s; RssAnon %.0f MB after it", n, again, tookAgain.Seconds(), float64(anon)/mb)
	if again != 0 {
		return fmt.Errorf("the same roster again changes %d things", again)
	}
	return nil
}
