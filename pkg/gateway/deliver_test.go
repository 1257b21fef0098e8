package gateway

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/im"
)

// TestDeliver sends messages into a room whose members are all connected, and
// waits until each has been written to each socket, where it stays: nobody reads.
// PIPIT_DELIVER="MEMBERS MESSAGES" says how many; tests/load counts the
// instructions that it takes on an emulated arm64 (measure "arm64").
func TestDeliver(t *testing.T) {
	members, messages := 10, 20
	if v := os.Getenv("PIPIT_DELIVER"); v != "" {
		if _, err := fmt.Sscan(v, &members, &messages); err != nil {
			t.Fatalf("PIPIT_DELIVER=%q: %v", v, err)
		}
	}
	b := newBox(t)
	defer b.end(t)
	tokens := crowd(t, b, members)
	users, err := b.store.Users(t.Context(), "oakhill")
	if err != nil {
		t.Fatal(err)
	}
	var everybody []im.UserID
	for _, u := range users {
		everybody = append(everybody, u.ID)
	}
	actor := im.Actor{Tenant: "oakhill", User: everybody[0], Role: im.RoleStaff}
	made, err := b.chat.Do(t.Context(), &chat.Command{Op: chat.Create, Actor: actor, Key: "room", Kind: im.KindGroup, Title: "Room", Users: everybody[1:]})
	if err != nil {
		t.Fatal(err)
	}
	var r rawClients
	defer r.close()
	r.open(t, b.addr, members)
	r.hello(t, tokens)
	before := b.net.Stats().FramesOut
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i := range messages {
		actor.User = everybody[i%members] // nobody sends too fast
		cmd := &chat.Command{Op: chat.Send, Actor: actor, Conv: made.Head.ID, Key: fmt.Sprint("m", i), Text: "What was said to the class, some sixty-four bytes of it in all."}
		if _, err := b.chat.Do(ctx, cmd); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Millisecond) // a busier room is gathered
	}
	want := uint64(members * messages)
	for b.net.Stats().FramesOut-before < want {
		if ctx.Err() != nil {
			t.Fatalf("%d frames of %d were written", b.net.Stats().FramesOut-before, want)
		}
		time.Sleep(time.Millisecond)
	}
}
