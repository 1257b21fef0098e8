package roster

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/im"
)

// maxToldProblems bounds what a Result tells.
const maxToldProblems = 100

// commandsAtOnce is how many commands of an import wait for chat's commit at
// once: enough to share its flushes, few beside its queue.
const commandsAtOnce = 32

// applying is one run of a plan.
type applying struct {
	*Service
	ctx    context.Context
	t      im.TenantID
	p      *Plan
	result *Result
	by     im.UserID
	total  int
	done   atomic.Int64
	mu     sync.Mutex // of result
}

// apply does everything that a plan says. Each step changes nothing where it was
// done before, so that it may be cut off anywhere and done again.
func (s *Service) apply(ctx context.Context, t im.TenantID, p *Plan, result *Result) error {
	a := &applying{Service: s, ctx: ctx, t: t, p: p, result: result, by: im.SystemUser,
		total: len(p.Users) + len(p.Passwords) + len(p.Roster) + 2*len(p.New) + len(p.Classes) + 2*len(p.Seats) + len(p.Titles) + len(p.Archive) + len(p.Reopen)}
	result.Counts["people"], result.Counts["classes"] = len(p.Users), len(p.Classes)
	for _, step := range []func() error{a.users, a.passwords, a.rosters, a.found, a.seats, a.titles, a.archive} {
		if err := step(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (a *applying) step(n int) {
	a.progress(a.t, Importing, int(a.done.Add(int64(n))), a.total, "")
}

func (a *applying) problem(s Said) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.result.Problems) < maxToldProblems {
		a.result.Problems = append(a.result.Problems, s)
	}
}

// final tells errors that trying again won't mend.
func final(err error) bool {
	switch im.KindOf(err) {
	case im.Invalid, im.Exists, im.NotFound, im.TooLarge, im.Forbidden:
		return true
	}
	return false
}

func (a *applying) users() error {
	for part := range slices.Chunk(a.p.Users, 500) {
		for i, err := range a.dir.PutUsers(a.ctx, a.t, part) {
			switch {
			case err == nil:
			case final(err) && a.tenant(a.t):
				a.problem(refused(err, part[i].Username, part[i].Name))
			default:
				return err
			}
		}
		a.step(len(part))
	}
	return nil
}

func (a *applying) passwords() error {
	return inParallel(commandsAtOnce, len(a.p.Passwords), func(i int) error {
		x := a.p.Passwords[i]
		a.step(1)
		if _, ok := a.dir.User(a.t, x.User); x.PHC == "" || !ok {
			return nil
		}
		return a.Service.passwords.PutGiven(a.ctx, a.t, x.User, x.PHC)
	})
}

func (a *applying) rosters() error {
	list := slices.DeleteFunc(slices.Clone(a.p.Roster), func(r im.RosterUser) bool {
		_, ok := a.dir.User(a.t, r.User)
		return !ok // could not be added
	})
	a.step(len(a.p.Roster))
	if len(list) == 0 {
		return nil
	}
	return a.dir.PutRosterUsers(a.ctx, a.t, list)
}

// found makes the conversations of new classes and stores the classes.
func (a *applying) found() error {
	classes := slices.Clone(a.p.Classes)
	index := make(map[im.ClassID]int, len(classes))
	for i, c := range classes {
		index[c.ID] = i
	}
	seats := make(map[im.ClassID]*Seats, len(a.p.Seats))
	for i := range a.p.Seats {
		seats[a.p.Seats[i].Class] = &a.p.Seats[i]
	}
	// The first members come with the conversation, whose log is empty then; those
	// beyond the bound of one command join it (seats).
	first := func(list []chat.Seat) []chat.Seat { return list[:min(len(list), chat.MaxSeats)] }
	err := inParallel(commandsAtOnce, 2*len(a.p.New), func(i int) error {
		c := &classes[index[a.p.New[i/2]]]
		cmd := &chat.Command{Op: chat.Create, Key: "class/" + string(c.ID) + "/group", Kind: im.KindGroup, Title: c.Name, Seats: first(seats[c.ID].Group)}
		if i%2 == 1 {
			cmd.Key, cmd.Kind, cmd.Title = "class/"+string(c.ID)+"/board", im.KindNotice, boardTitle(c.Name)
			cmd.Seats = first(seats[c.ID].Board)
		}
		sum := sha256.Sum256([]byte(cmd.Key))
		cmd.Body = [16]byte(sum[:16])
		res, err := a.do(cmd)
		if err != nil {
			return err
		}
		if i%2 == 1 {
			c.Board = res.Head.ID
		} else {
			c.Group = res.Head.ID
		}
		a.step(1)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range classes {
		// Those that are here already keep what is known of them now.
		if now, ok := a.dir.Class(a.t, classes[i].ID); ok {
			classes[i].Group, classes[i].Board, classes[i].Created = now.Group, now.Board, now.Created
		} else {
			classes[i].Created = im.Millis(a.now().UnixMilli())
		}
	}
	a.step(len(classes))
	if len(classes) == 0 {
		return nil
	}
	return a.dir.PutClasses(a.ctx, a.t, classes)
}

// boardTitle names a class's board so that it can be told from its group.
func boardTitle(name string) string {
	title := []rune("📢 " + name)
	return string(title[:min(len(title), im.MaxTitleRunes)])
}

// do runs a command of the box itself.
func (a *applying) do(cmd *chat.Command) (chat.Result, error) {
	cmd.System, cmd.Actor = true, im.Actor{Tenant: a.t, User: a.by}
	for {
		res, err := a.chat.Do(a.ctx, cmd)
		var e *im.Error
		if errors.As(err, &e) && e.Kind == im.Unavailable && a.ctx.Err() == nil && e.Cause == nil && e.RetryAfter > 0 {
			if sleep(a.ctx, e.RetryAfter) { // the queue was full
				continue
			}
		}
		return res, err
	}
}

func (a *applying) seats() error {
	return inParallel(commandsAtOnce, 2*len(a.p.Seats), func(i int) error {
		x := &a.p.Seats[i/2]
		c, ok := a.dir.Class(a.t, x.Class)
		if !ok {
			return nil
		}
		conv, seats := c.Group, x.Group
		if i%2 == 1 {
			conv, seats = c.Board, x.Board
		}
		a.step(1)
		return a.seat(conv, seats)
	})
}

func (a *applying) seat(conv im.ConvID, seats []chat.Seat) error {
	for part := range slices.Chunk(seats, chat.MaxSeats) {
		if _, err := a.do(&chat.Command{Op: chat.Reseat, Conv: conv, Seats: part}); err != nil && !im.Is(err, im.NotFound) {
			return err
		}
	}
	return nil
}

func (a *applying) titles() error {
	for _, id := range a.p.Titles {
		a.step(1)
		c, ok := a.dir.Class(a.t, id)
		if !ok {
			continue
		}
		for conv, title := range map[im.ConvID]string{c.Group: c.Name, c.Board: boardTitle(c.Name)} {
			if _, err := a.do(&chat.Command{Op: chat.Update, Conv: conv, Title: title}); err != nil && !im.Is(err, im.NotFound) {
				return err
			}
		}
	}
	return nil
}

func (a *applying) archive() error {
	for _, list := range []struct {
		ids []im.ClassID
		on  bool
	}{{a.p.Archive, true}, {a.p.Reopen, false}} {
		err := inParallel(commandsAtOnce, len(list.ids), func(i int) error {
			a.step(1)
			c, ok := a.dir.Class(a.t, list.ids[i])
			if !ok {
				return nil
			}
			for _, conv := range []im.ConvID{c.Group, c.Board} {
				if _, err := a.do(&chat.Command{Op: chat.Archive, Conv: conv, On: list.on}); err != nil && !im.Is(err, im.NotFound) {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
