package isolation_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// room is what the model knows of a conversation.
type room struct {
	tenant  int
	members map[int]bool // index of the user
	texts   []string
}

// TestRandomHistories has users of two tenants do at random what they like with
// ids of both, and compares each answer, and at the end each log, with a model of
// two worlds that do not know of each other.
func TestRandomHistories(t *testing.T) {
	b := newBox(t)
	schools := []*school{b.school("oakhill"), b.school("elm")}
	type person struct {
		tenant int
		id     string
		conn   *conn
	}
	var people []person
	for i, s := range schools {
		for _, who := range [][2]string{{s.owner, s.ownerID}, {s.member, s.memberID}} {
			c := b.dial(who[0])
			defer c.close()
			people = append(people, person{i, who[1], c})
		}
	}
	rooms := map[string]*room{}
	var ids []string
	invited := 0
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 7))
		for step := range 150 {
			who := r.IntN(len(people))
			p := people[who]
			key := fmt.Sprintf("h%d-%d", seed, step)
			if len(ids) == 0 || r.IntN(12) == 0 {
				other := r.IntN(len(people))
				a := p.conn.ask("conversation.create", fmt.Sprintf(`{"kind":"group","title":"r","members":[%q],"key":%q}`, people[other].id, key))
				if (a.Error == nil) != (people[other].tenant == p.tenant) {
					t.Fatalf("seed %d step %d: create with a user of tenant %d by one of %d: %s", seed, step, people[other].tenant, p.tenant, a.raw)
				}
				if a.Error == nil {
					id := a.id(t)
					rooms[id] = &room{tenant: p.tenant, members: map[int]bool{who: true, other: true}}
					ids = append(ids, id)
				}
				continue
			}
			id := ids[r.IntN(len(ids))]
			in := rooms[id]
			switch r.IntN(3) {
			case 0, 1:
				text := fmt.Sprintf("text %s of tenant %d", key, p.tenant)
				a := p.conn.ask("message.send", fmt.Sprintf(`{"conversation":%q,"key":%q,"text":%q}`, id, key, text))
				if (a.Error == nil) != in.members[who] {
					t.Fatalf("seed %d step %d: send by user %d into a room of tenant %d: %s", seed, step, who, in.tenant, a.raw)
				}
				if a.Error == nil {
					in.texts = append(in.texts, text)
				}
			case 2:
				other := r.IntN(len(people))
				a := p.conn.ask("conversation.invite", fmt.Sprintf(`{"id":%q,"users":[%q],"key":%q}`, id, people[other].id, key))
				if a.Error == nil && (!in.members[who] || people[other].tenant != in.tenant) {
					t.Fatalf("seed %d step %d: user %d invited user %d into a room of tenant %d: %s", seed, step, who, other, in.tenant, a.raw)
				}
				if a.Error == nil {
					in.members[other] = true
					invited++
				}
			}
		}
	}
	for id, in := range rooms {
		for who, p := range people {
			var got []string
			for after := 0; ; {
				a := p.conn.ask("message.history", fmt.Sprintf(`{"conversation":%q,"after":%d,"limit":200}`, id, after))
				if !in.members[who] {
					if a.kind() != "not_found" {
						t.Errorf("a stranger's history: %s", a.raw)
					}
					break
				}
				var page struct {
					Head    int
					Entries []struct {
						Seq        int
						Kind, Text string
					}
				}
				if err := json.Unmarshal(a.Result, &page); err != nil {
					t.Fatalf("%v in %s", err, a.raw)
				}
				for _, e := range page.Entries {
					if after = e.Seq; e.Kind == "message" {
						got = append(got, e.Text)
					}
				}
				if after >= page.Head {
					break
				}
			}
			if in.members[who] && !slices.Equal(got, in.texts) {
				t.Errorf("room %s has %q, want %q", id, got, in.texts)
			}
		}
	}
	if len(rooms) < 10 || invited < 10 {
		t.Errorf("only %d rooms and %d invitations", len(rooms), invited)
	}
}
