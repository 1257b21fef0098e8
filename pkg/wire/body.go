package wire

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/pipit-im/pipit/pkg/im"
)

// Body methods hash what PROTOCOL 6.2 calls the body of a request: the method
// and all known params but the key, as decoded values, so that two spellings of
// the same JSON, or an absent member and its default, are the same body. The
// hash is the first half of SHA-256 over a canonical form in which every value
// has its length before it. It is stored with the key: it must never change for
// a request that stays valid. A new optional param is therefore appended to the
// form only where it does not have its default value, behind a tag of its own.
type body []byte

func newBody(method string, size int) body {
	return make(body, 0, len(method)+size+48).text(method)
}

func (b body) text(s string) body {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (b body) number(n uint64) body { return binary.AppendUvarint(b, n) }

func (b body) boolean(on bool) body {
	if on {
		return append(b, 1)
	}
	return append(b, 0)
}

func (b body) users(list []im.UserID) body {
	b = b.number(uint64(len(list)))
	for _, u := range list {
		b = b.text(string(u))
	}
	return b
}

func (b body) sum() (h [16]byte) {
	full := sha256.Sum256(b)
	copy(h[:], full[:])
	return h
}

// Body returns the hash of the request's body (PROTOCOL 6.2).
func (p *SendParams) Body() [16]byte {
	size := len(p.Conversation) + len(p.Text) + 24*len(p.Mentions)
	return newBody(MethodSend, size).text(string(p.Conversation)).text(p.Text).
		number(uint64(p.ReplyTo)).users(p.Mentions).sum()
}

// Body returns the hash of the request's body (PROTOCOL 6.2).
func (p *EditParams) Body() [16]byte {
	return newBody(MethodEdit, len(p.Conversation)+len(p.Text)).text(string(p.Conversation)).
		number(uint64(p.Target)).text(p.Text).sum()
}

// Body returns the hash of the request's body (PROTOCOL 6.2).
func (p *RecallParams) Body() [16]byte {
	return newBody(MethodRecall, len(p.Conversation)).text(string(p.Conversation)).
		number(uint64(p.Target)).sum()
}

// Body returns the hash of the request's body (PROTOCOL 6.2).
func (p *ReactParams) Body() [16]byte {
	return newBody(MethodReact, len(p.Conversation)+len(p.Emoji)).text(string(p.Conversation)).
		number(uint64(p.Target)).text(p.Emoji).boolean(p.On).sum()
}

// Body returns the hash of the request's body (PROTOCOL 6.2).
func (p *PinParams) Body() [16]byte {
	return newBody(MethodPin, len(p.Conversation)).text(string(p.Conversation)).
		number(uint64(p.Target)).boolean(p.On).sum()
}

// Body returns the hash of the request's body (PROTOCOL 6.2).
func (p *CreateParams) Body() [16]byte {
	return newBody(MethodCreate, len(p.Title)+24*len(p.Members)).text(p.Kind.String()).
		text(p.Title).users(p.Members).sum()
}
