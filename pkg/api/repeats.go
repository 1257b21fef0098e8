package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// The bounds of what is remembered of requests that carried an Idempotency-Key.
const (
	keysFor     = 24 * time.Hour // of Box.Age
	maxAnswer   = 32 << 10       // a longer answer is remembered as done, without itself
	tidyAtOnce  = 200
	keyIDLength = 40
)

// repeats remembers requests by Idempotency-Key for a day, so that a program that
// got no answer may ask again. What is stored is the hash of caller and key, a
// MAC of the request under the key itself (so that a password in it can't be
// guessed from the card), and the answer, unless it holds a secret.
//
// The act and the memory of it are two writes: after a power cut between them a
// repeat is judged anew, and finds most things there already (exists).
type repeats struct {
	records store.Records
	age     func() time.Duration

	mu      sync.Mutex
	running map[string]chan struct{} // by record id; closed when the first is answered
}

func newRepeats(records store.Records, age func() time.Duration) *repeats {
	return &repeats{records: records, age: age, running: map[string]chan struct{}{}}
}

// remembered is one record.
type remembered struct {
	Age    time.Duration   `json:"age"`
	Op     string          `json:"op"`
	Body   string          `json:"body"`
	Answer json.RawMessage `json:"answer,omitempty"`
}

// repeat is a request with a key, while it is served.
type repeat struct {
	of       *repeats
	tenant   im.TenantID
	id       string
	rec      remembered
	answered bool   // it was done before
	answer   []byte // then: what was answered
	done     chan struct{}
}

// begin waits for a request with the same key that is being served, and looks
// whether there was one. Another request under the same key is im.Conflict.
func (r *repeats) begin(ctx context.Context, rq *request, e endpoint, body []byte) (*repeat, error) {
	h := sha256.New()
	for _, s := range []string{e.ID, string(rq.actor.User), rq.key} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	mac := hmac.New(sha256.New, []byte(rq.key))
	mac.Write(body)
	k := &repeat{of: r, tenant: rq.actor.Tenant, id: hex.EncodeToString(h.Sum(nil))[:keyIDLength],
		rec: remembered{Op: e.ID, Body: hex.EncodeToString(mac.Sum(nil))}}
	name := string(k.tenant) + "/" + k.id
	for {
		r.mu.Lock()
		wait := r.running[name]
		if wait == nil {
			k.done = make(chan struct{})
			r.running[name] = k.done
		}
		r.mu.Unlock()
		if wait == nil {
			break
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	raw, err := r.records.Record(ctx, k.tenant, store.RecordRepeat, k.id)
	var was remembered
	switch {
	case im.Is(err, im.NotFound):
		return k, nil
	case err == nil:
		err = json.Unmarshal(raw, &was)
	}
	switch {
	case err != nil:
	case r.age()-was.Age >= keysFor:
	case was.Body != k.rec.Body:
		err = im.E(im.Conflict, "This key was used for another request.").OnField("Idempotency-Key")
	default:
		k.answered, k.answer = true, was.Answer
		if was.Answer == nil && e.Once == replay {
			err = im.E(im.Conflict, "This was done before; its answer was too long to be kept.").OnField("Idempotency-Key")
		}
	}
	if err != nil {
		k.end()
		return nil, err
	}
	return k, nil
}

// remember keeps what was answered; nil: only that it was.
func (k *repeat) remember(ctx context.Context, answer []byte) error {
	k.rec.Age = k.of.age()
	if len(answer) <= maxAnswer {
		k.rec.Answer = answer
	}
	b, err := json.Marshal(k.rec)
	if err != nil {
		return err
	}
	return k.of.records.UpdateRecords(context.WithoutCancel(ctx), k.tenant, func(tx store.RecordTx) error {
		tx.Put(store.RecordRepeat, k.id, b)
		return nil
	})
}

// end lets the next request with the same key in.
func (k *repeat) end() {
	k.of.mu.Lock()
	delete(k.of.running, string(k.tenant)+"/"+k.id)
	k.of.mu.Unlock()
	close(k.done)
}

// tidy forgets the keys of a tenant that are older than a day.
func (r *repeats) tidy(ctx context.Context, t im.TenantID) error {
	for after := ""; ; {
		page, err := r.records.ListRecords(ctx, t, store.RecordRepeat, "", after, tidyAtOnce)
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1].ID
		var old []string
		for _, rec := range page {
			var was remembered
			if json.Unmarshal(rec.Value, &was) != nil || r.age()-was.Age >= keysFor {
				old = append(old, rec.ID)
			}
		}
		if len(old) == 0 {
			continue
		}
		if err := r.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
			for _, id := range old {
				tx.Delete(store.RecordRepeat, id)
			}
			return nil
		}); err != nil {
			return err
		}
	}
}

// stripes are locks by tenant: administrative changes that heed If-Match are
// made one after the other within a tenant.
type stripes [64]sync.Mutex

func (s *stripes) lock(t im.TenantID) *sync.Mutex {
	h := uint32(2166136261)
	for i := range len(t) {
		h = (h ^ uint32(t[i])) * 16777619 // FNV-1a
	}
	m := &s[h%uint32(len(s))]
	m.Lock()
	return m
}
