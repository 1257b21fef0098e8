package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// reserveFDs are the descriptors of a worker that are no users' sockets.
const reserveFDs = 200

// localAddresses is how many addresses of 127.0.0.0/8 the clients come from;
// each has its own 28,000 ports.
const localAddresses = 16

// fleet is the workers of a run.
type fleet struct {
	workers []*child
	log     io.Writer
}

// child is one worker process.
type child struct {
	cmd   *exec.Cmd
	out   *lines
	in    io.WriteCloser
	done  chan news
	users []userPlan // its share

	mu   sync.Mutex
	last counts // guarded by mu
}

// run makes one run and returns its report.
func run(ctx context.Context, s settings, progress io.Writer) (*report, error) {
	box := apiclient.New(s.DataDir)
	defer box.Close()
	status, err := box.Status(ctx)
	if err != nil {
		return nil, err
	}
	if s.URL == "" {
		if len(status.Listen) == 0 {
			return nil, errors.New("the server has no plain listener; name its address with --url")
		}
		s.URL = "http://" + status.Listen[0]
	}
	r := &report{Profile: s.Profile, Users: s.Users, Room: s.Room}
	if s.Floor {
		fmt.Fprintln(progress, "measuring the bare write loop …")
		floor, err := measureFloor(ctx, floorPlan{Sockets: s.Users, Writes: max(200_000, 10*s.Users)})
		if err != nil {
			return nil, fmt.Errorf("measure the floor: %w", err)
		}
		r.FloorUS = floor.PerWriteUS
	}
	fmt.Fprintf(progress, "making %d users …\n", s.Users)
	plans, rooms, err := prepare(ctx, box, s)
	if err != nil {
		return nil, err
	}
	r.Rooms = rooms
	if s.Online > 0 {
		plans, s.Users = plans[:s.Online], s.Online
	}
	if r.Empty, err = memoryOf(status.PID); err != nil {
		return nil, err
	}
	f, err := newFleet(ctx, plans, progress)
	if err != nil {
		return nil, err
	}
	defer f.end()
	if err := f.measure(ctx, s, r, status.PID, box); err != nil {
		return nil, err
	}
	return r, nil
}

// prepare makes the tenant, its users with tokens, and the rooms.
func prepare(ctx context.Context, box *apiclient.Client, s settings) ([]userPlan, int, error) {
	tenant := "load-" + strconv.FormatInt(time.Now().UnixMilli(), 36)
	if _, err := box.AddTenant(ctx, tenant, "Load test"); err != nil {
		return nil, 0, err
	}
	plans := make([]userPlan, s.Users)
	ids := make([]im.UserID, s.Users)
	for from := 0; from < s.Users; from += 500 {
		to := min(from+500, s.Users)
		in := apiclient.BulkPeople{Tokens: true}
		for i := from; i < to; i++ {
			in.Users = append(in.Users, apiclient.NewPerson{Username: fmt.Sprintf("user%06d", i), Name: fmt.Sprintf("User %d", i), Role: im.RoleStaff.String()})
		}
		made, err := box.AddUsers(ctx, tenant, in)
		if err != nil {
			return nil, 0, err
		}
		for i, u := range made {
			n := from + i
			plans[n] = userPlan{Number: n + 1, Token: u.Token, Local: fmt.Sprintf("127.0.0.%d", 2+n%localAddresses)}
			ids[n] = im.UserID(u.ID)
		}
	}
	rooms := 0
	for from := 0; from < s.Users; from += s.Room {
		to := min(from+s.Room, s.Users)
		if to-from < 2 {
			break // a last user alone is in no room
		}
		conv, head, err := makeRoom(ctx, s.URL, plans[from].Token, ids[from:to], s.Profile == "announce")
		if err != nil {
			return nil, 0, fmt.Errorf("make a room: %w", err)
		}
		rooms++
		for i := from; i < to; i++ {
			plans[i].Rooms, plans[i].Heads = []im.ConvID{conv}, []im.Seq{head}
			if s.Profile == "announce" && i != from || s.Profile == "idle" {
				continue
			}
			plans[i].Sends = conv
		}
	}
	return plans, rooms, nil
}

// makeRoom makes a conversation and returns its head: everybody's position, so
// that no receiver begins by pulling the entries of all who joined.
func makeRoom(ctx context.Context, url, token string, members []im.UserID, notice bool) (conv im.ConvID, head im.Seq, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c := client.New(client.Options{URL: url, Token: token, Name: "pipit-load"})
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Wait(ctx); err != nil {
		return "", 0, err
	}
	kind := im.KindGroup
	if notice {
		kind = im.KindNotice
	}
	first := members[1:min(len(members), im.MaxMembersInCall+1)]
	err = c.Call(ctx, wire.MethodCreate, &wire.CreateParams{Kind: kind, Title: "Load", Members: first, Key: client.NewKey()}, func(result []byte) error {
		h, err := wire.DecodeHead(result)
		conv = h.ID
		return err
	})
	for rest := members[1+len(first):]; err == nil && len(rest) > 0; {
		n := min(len(rest), im.MaxMembersInCall)
		err = c.Call(ctx, wire.MethodInvite, &wire.UsersParams{ID: conv, Users: rest[:n]}, nil)
		rest = rest[n:]
	}
	if err == nil {
		err = c.Call(ctx, wire.MethodGet, &wire.ConvParams{ID: conv}, func(result []byte) error {
			h, err := wire.DecodeHead(result)
			head = h.Head
			return err
		})
	}
	return conv, head, err
}

// newFleet starts as many workers as the descriptor limit asks for.
func newFleet(ctx context.Context, plans []userPlan, log io.Writer) (*fleet, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	each := max(int(min(limit.Max, 1<<20))-reserveFDs, 100)
	f := &fleet{log: log}
	for from := 0; from < len(plans); from += each {
		w := &child{cmd: exec.CommandContext(ctx, self, workerArg), done: make(chan news, 1), users: plans[from:min(from+each, len(plans))]}
		w.cmd.Stderr = os.Stderr
		// An interrupt at the terminal goes to the whole group; the coordinator
		// ends its workers itself, in order.
		w.cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
		if w.in, err = w.cmd.StdinPipe(); err != nil {
			return nil, err
		}
		out, err := w.cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := w.cmd.Start(); err != nil {
			return nil, err
		}
		w.out = newLines(w.in)
		go w.read(out)
		f.workers = append(f.workers, w)
	}
	return f, nil
}

func (w *child) read(out io.Reader) {
	dec := json.NewDecoder(bufio.NewReaderSize(out, 1<<20))
	for {
		var n news
		if err := dec.Decode(&n); err != nil {
			close(w.done)
			return
		}
		w.mu.Lock()
		w.last = n.Count
		w.mu.Unlock()
		if n.Kind == "done" {
			w.done <- n
		}
	}
}

// do gives every worker the same order and waits for all of them.
func (f *fleet) do(ctx context.Context, o order) ([]news, error) {
	for _, w := range f.workers {
		mine := o
		if o.Do == "connect" {
			mine.Users = w.users
		}
		if err := w.out.write(mine); err != nil {
			return nil, fmt.Errorf("a worker has ended: %w", err)
		}
	}
	all := make([]news, 0, len(f.workers))
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for _, w := range f.workers {
		for waiting := true; waiting; {
			select {
			case n, ok := <-w.done:
				if !ok {
					return nil, errors.New("a worker has ended")
				}
				if n.Error != "" {
					return nil, errors.New(n.Error)
				}
				all = append(all, n)
				waiting = false
			case <-tick.C:
				f.progress(o.Do)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	return all, nil
}

func (f *fleet) total() counts {
	var c counts
	for _, w := range f.workers {
		w.mu.Lock()
		c.add(w.last)
		w.mu.Unlock()
	}
	return c
}

func (f *fleet) progress(what string) {
	c := f.total()
	fmt.Fprintf(f.log, "%-8s %d connected, %d sent, %d acknowledged, %d delivered\n", what, c.Connected, c.Sent, c.Acked, c.Delivered)
}

// end tells the workers to go and waits for them.
func (f *fleet) end() {
	for _, w := range f.workers {
		w.in.Close()
	}
	for _, w := range f.workers {
		w.cmd.Wait() // its orders were answered or the run has failed already
	}
}

// measure drives the profile and fills the report.
func (f *fleet) measure(ctx context.Context, s settings, r *report, pid int, box *apiclient.Client) error {
	began := time.Now()
	cpu0, err := cpuTime(pid)
	if err != nil {
		return err
	}
	if _, err := f.do(ctx, order{Do: "connect", URL: s.URL, Ramp: s.Ramp}); err != nil {
		return err
	}
	took := time.Since(began)
	cpu1, err := cpuTime(pid)
	if err != nil {
		return err
	}
	r.Connecting, r.ConnectCPU, r.Connects = seconds(took), seconds(cpu1-cpu0), float64(s.Users)/took.Seconds()
	if s.Profile == "storm" {
		return f.storms(ctx, s, r, pid, box)
	}
	before, err := box.Status(ctx)
	if err != nil {
		return err
	}
	written0, err := writtenBytes(pid)
	if err != nil {
		return err
	}
	if cpu1, err = cpuTime(pid); err != nil {
		return err
	}
	began = time.Now()
	o := order{Do: "send", Every: s.Every, Size: s.Size}
	if s.Profile == "soak" {
		o.Break = time.Minute
	}
	if _, err := f.do(ctx, o); err != nil {
		return err
	}
	if err := f.wait(ctx, s.Duration, s.Profile); err != nil {
		return err
	}
	if _, err := f.do(ctx, order{Do: "quiet"}); err != nil {
		return err
	}
	r.Duration = seconds(time.Since(began))
	cpu2, err := cpuTime(pid)
	if err != nil {
		return err
	}
	r.ServerCPU = seconds(cpu2 - cpu1)
	if r.Full, err = memoryOf(pid); err != nil {
		return err
	}
	written1, err := writtenBytes(pid)
	if err != nil {
		return err
	}
	after, err := box.Status(ctx)
	if err != nil {
		return err
	}
	r.Written, r.Commits = written1-written0, after.Commits-before.Commits
	return f.collect(ctx, s, r)
}

// wait lets the load run for d, with a line of progress now and then.
func (f *fleet) wait(ctx context.Context, d time.Duration, what string) error {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-deadline.C:
			return nil
		case <-tick.C:
			f.progress(what)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// storms reconnects everybody at once until the time is over, at least once. The
// end of the old connections comes before and is not counted.
func (f *fleet) storms(ctx context.Context, s settings, r *report, pid int, box *apiclient.Client) error {
	began := time.Now()
	var used, took time.Duration
	rounds := 0
	for rounds == 0 || time.Since(began) < s.Duration {
		if _, err := f.do(ctx, order{Do: "part"}); err != nil {
			return err
		}
		if err := gone(ctx, box); err != nil {
			return err
		}
		cpu1, err := cpuTime(pid)
		if err != nil {
			return err
		}
		at := time.Now()
		if _, err := f.do(ctx, order{Do: "storm", Ramp: s.Users}); err != nil {
			return err
		}
		took += time.Since(at)
		cpu2, err := cpuTime(pid)
		if err != nil {
			return err
		}
		used += cpu2 - cpu1
		rounds++
	}
	r.Duration = seconds(time.Since(began))
	r.Connecting = seconds(took / time.Duration(rounds))
	r.ConnectCPU = seconds(used / time.Duration(rounds))
	r.ServerCPU = seconds(used)
	r.Connects = float64(s.Users*rounds) / took.Seconds()
	var err error
	if r.Full, err = memoryOf(pid); err != nil {
		return err
	}
	return f.collect(ctx, s, r)
}

// gone waits until the server has noticed that everybody has left.
func gone(ctx context.Context, box *apiclient.Client) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		status, err := box.Status(ctx)
		if err != nil || status.Sessions == 0 {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d sessions are still there a minute after they were closed", status.Sessions)
		}
	}
}

// collect ends the users and judges what they saw.
func (f *fleet) collect(ctx context.Context, s settings, r *report) error {
	all, err := f.do(ctx, order{Do: "stop"})
	if err != nil {
		return err
	}
	ack, deliv, conn := histogram(), histogram(), histogram()
	rooms := map[im.ConvID]roomCount{}
	var c counts
	for _, n := range all {
		c.add(n.Count)
		for _, x := range []struct {
			into *hdrhistogram.Histogram
			from []byte
		}{{ack, n.Ack}, {deliv, n.Deliv}, {conn, n.Conn}} {
			h, err := hdrhistogram.Decode(x.from)
			if err != nil {
				return err
			}
			x.into.Merge(h)
		}
		for id, rc := range n.Rooms {
			sum := rooms[id]
			sum.merge(rc)
			rooms[id] = sum
		}
	}
	r.Sends, r.Acked, r.Refused, r.Deliveries = c.Sent, c.Acked, c.Refused, c.Delivered
	r.Lost, r.Doubled, r.OutOfOrder, r.Pulled, r.Again = c.Lost, c.Doubled, c.Misordered, c.Pulled, c.Again
	if c.Again > 0 {
		// What is refused does not hold back the next (PROTOCOL 2.3): the order of
		// a sender's numbers says nothing in this run; that of seq still does.
		r.OutOfOrder, r.Late = 0, c.Misordered
	}
	// Each receiver must have each acknowledged message of its room, its own
	// too; what it has beyond them was stored without an acknowledgement, which
	// only a break may cause.
	for _, rc := range rooms {
		if rc.Receivers > 0 {
			r.Lost += max(rc.Acked-rc.MinGot, 0)
			if rc.MinSeq < rc.MaxSeq && rc.Acked <= rc.MinGot {
				r.Lost++
			}
			if s.Profile != "soak" {
				r.Doubled += max(rc.MaxGot-rc.Acked, 0)
			}
		}
	}
	r.Reconnects = max(c.Reconnects-s.Users, 0)
	if d := time.Duration(r.Duration).Seconds(); d > 0 {
		r.SendsPerS, r.DelivPerS = float64(r.Acked)/d, float64(r.Deliveries)/d
	}
	r.Ack, r.Delivery, r.Handshake = quantilesOf(ack), quantilesOf(deliv), quantilesOf(conn)
	if r.Deliveries > 0 {
		r.CPUPerDel = float64(time.Duration(r.ServerCPU).Microseconds()) / float64(r.Deliveries)
		if r.FloorUS > 0 {
			r.XFloor = r.CPUPerDel / r.FloorUS
		}
	}
	r.RSSPerConn = float64(r.Full.RSS-r.Empty.RSS) / float64(s.Users)
	for _, w := range f.workers {
		t, err := cpuTime(w.cmd.Process.Pid)
		if err != nil {
			return err
		}
		r.ClientCPU += seconds(t)
	}
	return nil
}
