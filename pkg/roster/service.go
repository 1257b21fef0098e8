package roster

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"sync"
	"time"

	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Passwords hashes and sets the passwords that a roster gives; auth.Auth does.
type Passwords interface {
	CheckPassword(t im.TenantID, username, password string) error
	HashGiven(ctx context.Context, t im.TenantID, username, password string) (phc string, err error)
	PutGiven(ctx context.Context, t im.TenantID, u im.UserID, phc string) error
}

// Chat runs the commands that give classes their conversations; chat.Chat does.
type Chat interface {
	Do(ctx context.Context, cmd *chat.Command) (chat.Result, error)
}

// Setup is what a Service is made of. All but Now, Date, Log and Done are
// required.
type Setup struct {
	Directory *directory.Directory
	Records   store.Records
	Chat      Chat
	Passwords Passwords
	Now       func() time.Time // the store's clock
	// Date says what time it is for whoever goes by the day, and whether that can
	// be relied on: while it can't, no term is over. It is not Now, because that
	// never runs backward, so one false start of the clock in 2036 would end every
	// term. Nil: the clock of this machine, always.
	Date func() (now time.Time, known bool)
	Log  *slog.Logger
	// Done hears of each import that was finished, for the audit log. Nil: nobody.
	Done func(ctx context.Context, t im.TenantID, r *Result)
}

// Service does imports and keeps classes. See New.
type Service struct {
	dir       *directory.Directory
	records   store.Records
	chat      Chat
	passwords Passwords
	now       func() time.Time
	date      func() (time.Time, bool)
	log       *slog.Logger
	done      func(context.Context, im.TenantID, *Result)

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wait sync.WaitGroup

	mu   sync.Mutex
	jobs map[im.TenantID]*Status // one at a time for each tenant
}

// State says what a tenant's import is doing.
type State string

// The states.
const (
	Idle      State = "idle"
	Preparing State = "preparing" // hashing passwords; a cut leaves nothing
	Importing State = "importing" // sealed: it will be finished
	Waiting   State = "waiting"   // sealed, and the store takes nothing just now
)

// Status is how far the import of a tenant is.
type Status struct {
	State State
	Done  int // of Total steps
	Total int
	Why   string  // while Waiting, and after a preparation that failed
	Last  *Result // the import before
}

// New makes a Service. Resume takes up what was cut off.
func New(o Setup) *Service {
	s := &Service{dir: o.Directory, records: o.Records, chat: o.Chat, passwords: o.Passwords, now: o.Now, date: o.Date, log: o.Log, done: o.Done,
		jobs: make(map[im.TenantID]*Status)}
	if s.now == nil {
		s.now = time.Now
	}
	if s.date == nil {
		s.date = func() (time.Time, bool) { return time.Now(), true }
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Close stops the imports that are under way where they are, and waits for them,
// or for ctx. They are taken up again by the next Resume.
func (s *Service) Close(ctx context.Context) error {
	s.stop()
	ended := make(chan struct{})
	go func() {
		s.wait.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Resume goes on with every import that was cut off, in the background.
func (s *Service) Resume(ctx context.Context) error {
	for _, t := range s.dir.Tenants() {
		p, began, err := s.read(ctx, t.ID)
		if err != nil {
			return err
		}
		if p == nil {
			continue
		}
		if !s.begin(t.ID, Importing) {
			continue
		}
		s.log.Info("an import that was cut off goes on", "tenant", string(t.ID))
		s.wait.Go(func() {
			defer s.end(t.ID, "")
			s.finish(t.ID, p, began)
		})
	}
	return nil
}

// begin takes the tenant's one place for an import.
func (s *Service) begin(t im.TenantID, state State) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[t]; j != nil && j.State != Idle {
		return false
	}
	s.jobs[t] = &Status{State: state}
	return true
}

func (s *Service) end(t im.TenantID, why string) {
	s.mu.Lock()
	s.jobs[t] = &Status{State: Idle, Why: why}
	s.mu.Unlock()
}

func (s *Service) progress(t im.TenantID, state State, done, total int, why string) {
	s.mu.Lock()
	if j := s.jobs[t]; j != nil {
		*j = Status{State: state, Done: done, Total: total, Why: why}
	}
	s.mu.Unlock()
}

// Status returns how far the tenant's import is.
func (s *Service) Status(ctx context.Context, t im.TenantID) (Status, error) {
	s.mu.Lock()
	now := Status{State: Idle}
	if j := s.jobs[t]; j != nil {
		now = *j
	}
	s.mu.Unlock()
	var err error
	now.Last, err = s.last(ctx, t)
	return now, err
}

func busy() error {
	return im.E(im.Conflict, "A roster is being imported, or a class changed, at this moment. Wait until that is done.")
}

// Preview reads a roster and says what importing it would change. Errors:
// im.Invalid if it is no roster, im.TooLarge.
func (s *Service) Preview(t im.TenantID, by im.UserID, name string, content []byte, o Options) (*Report, error) {
	_, rep, err := s.plan(t, by, name, content, o)
	return rep, err
}

func (s *Service) plan(t im.TenantID, by im.UserID, name string, content []byte, o Options) (*Plan, *Report, error) {
	if _, ok := s.dir.Tenant(t); !ok {
		return nil, nil, im.E(im.NotFound, "There is no such tenant.").OnField("tenant")
	}
	if o.Term != "" {
		var err error
		if o.Term, err = cleanName(o.Term); err != nil {
			return nil, nil, im.E(im.Invalid, "The term is a name of at most %d characters.", im.MaxTitleRunes).OnField("term")
		}
	}
	r, err := Read(name, content)
	if err != nil {
		return nil, nil, err
	}
	for i := range r.People {
		x := &r.People[i]
		if x.Password == "" {
			continue
		}
		if _, here := s.dir.ByUsername(t, x.Username); here {
			continue // who is here keeps the password that he has
		}
		if err := s.passwords.CheckPassword(t, x.Username, x.Password); err != nil {
			r.tell(x.Place, refused(err, x.Username, x.Name))
		}
	}
	return makePlan(s.dir, t, by, r, o, sha256.Sum256(content), s.today(t))
}

// Import begins what Preview showed, if digest is that of its report and nothing
// has changed since: im.Conflict otherwise, and while another import is under way;
// im.Invalid if there are problems that are not to be skipped. When it returns,
// the import goes on in the background (Status); with nothing to do it is done.
func (s *Service) Import(t im.TenantID, by im.UserID, name string, content []byte, o Options, digest string) (*Report, error) {
	if !s.begin(t, Preparing) {
		return nil, busy()
	}
	started := false
	defer func() {
		if !started {
			s.end(t, "")
		}
	}()
	p, rep, err := s.plan(t, by, name, content, o)
	if err != nil {
		return nil, err
	}
	if rep.Digest != digest {
		return rep, im.E(im.Conflict, "The roster, or the people here, have changed since the dry run. Look at what it says now, and import with that digest.").OnField("digest")
	}
	if rep.Wrong > 0 && !o.SkipBad {
		return rep, im.E(im.Invalid, "%d rows of the roster are wrong; nothing was changed. Mend them, or import without them (skip_bad).", rep.Wrong).OnField("rows")
	}
	if p.empty() {
		return rep, nil
	}
	started = true
	s.wait.Go(func() { s.run(t, p) })
	return rep, nil
}

// run prepares, seals and finishes an import.
func (s *Service) run(t im.TenantID, p *Plan) {
	why := ""
	defer func() { s.end(t, why) }()
	if err := s.hash(t, p); err == nil {
		began := im.Millis(s.now().UnixMilli())
		if err = s.write(s.ctx, t, p, began); err == nil {
			s.finish(t, p, began)
			return
		}
		why = "Nothing was imported: " + explain(err)
		s.log.Warn("a roster was not imported", "tenant", string(t), "err", err)
	} else if s.ctx.Err() == nil {
		why = "Nothing was imported: " + explain(err)
		s.log.Warn("a roster was not imported", "tenant", string(t), "err", err)
	}
}

// hash turns the given passwords into hashes, a few at a time: so the journal
// holds none. It is what takes the time of a roster with passwords.
func (s *Service) hash(t im.TenantID, p *Plan) error {
	const atOnce = 4 // auth lets fewer at it
	users := make(map[im.UserID]string, len(p.Users))
	for _, u := range p.Users {
		users[u.ID] = u.Username
	}
	return inParallel(atOnce, len(p.Passwords), func(i int) error {
		x := &p.Passwords[i]
		phc, err := s.passwords.HashGiven(s.ctx, t, users[x.User], x.plain)
		x.PHC, x.plain = phc, ""
		if i%10 == 0 {
			s.progress(t, Preparing, i, len(p.Passwords), "")
		}
		if im.Is(err, im.Invalid) {
			return nil // it was told as a problem, and is skipped
		}
		return err
	})
}

// inParallel calls fn for 0 … n-1, a few at once, and returns the first error.
func inParallel(atOnce, n int, fn func(i int) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	slots := make(chan struct{}, atOnce)
	for i := range n {
		slots <- struct{}{}
		mu.Lock()
		stop := first != nil
		mu.Unlock()
		if stop {
			<-slots
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := fn(i); err != nil {
				mu.Lock()
				if first == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return first
}

// finish does a sealed plan, for as long as it takes: what the store does not
// take is tried again. It returns early only when the service is closed. began is
// 0 for a change by hand, which leaves no result.
func (s *Service) finish(t im.TenantID, p *Plan, began im.Millis) {
	wait := retryFirst
	for {
		result := &Result{Began: began, By: p.By, Counts: map[string]int{}}
		err := s.apply(s.ctx, t, p, result)
		if err == nil {
			result.Ended = im.Millis(s.now().UnixMilli())
			if err = s.drop(s.ctx, t, result, began != 0); err == nil && began == 0 {
				return
			}
			if err == nil {
				s.log.Info("a roster was imported", "tenant", string(t), "people", result.Counts["people"], "classes", result.Counts["classes"], "problems", len(result.Problems))
				if s.done != nil {
					s.done(context.WithoutCancel(s.ctx), t, result)
				}
				return
			}
		}
		if s.ctx.Err() != nil {
			return
		}
		if im.Is(err, im.NotFound) && !s.tenant(t) {
			return // erased meanwhile
		}
		s.log.Warn("an import waits", "tenant", string(t), "err", err)
		s.progress(t, Waiting, 0, 0, explain(err))
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMost)
	}
}

func (s *Service) tenant(t im.TenantID) bool {
	_, ok := s.dir.Tenant(t)
	return ok
}

// sleep waits, and says whether it was not cut short.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
