package api

import "reflect"

// Page, Entry and Reaction document what wire.AppendPage writes (PROTOCOL 5.1,
// 6.3, 6.5). They are never marshalled; a test holds them against real answers.
type Page struct {
	Entries []Entry `json:"entries" nullable:"false"`
	Head    uint64  `json:"head" doc:"The newest seq of the log."`
}

// Entry is one entry of a log; which members are there depends on kind.
type Entry struct {
	Conversation string     `json:"conversation"`
	Seq          uint64     `json:"seq"`
	Time         int64      `json:"time" doc:"UTC milliseconds."`
	By           string     `json:"by"`
	Kind         string     `json:"kind" enum:"message,edit,recall,reaction,pin,member,meta"`
	Text         string     `json:"text,omitempty"`
	ReplyTo      uint64     `json:"reply_to,omitempty"`
	Mentions     []string   `json:"mentions,omitempty" nullable:"false"`
	Key          string     `json:"key,omitempty" doc:"To the author only."`
	Edited       int64      `json:"edited,omitempty"`
	Recalled     bool       `json:"recalled,omitempty"`
	Pinned       bool       `json:"pinned,omitempty"`
	Reactions    []Reaction `json:"reactions,omitempty" nullable:"false"`
	Target       uint64     `json:"target,omitempty"`
	Emoji        string     `json:"emoji,omitempty"`
	On           bool       `json:"on,omitempty"`
	User         string     `json:"user,omitempty"`
	Change       string     `json:"change,omitempty" enum:"joined,left,role"`
	Role         string     `json:"role,omitempty" enum:"owner,moderator,member,reader"`
	Title        string     `json:"title,omitempty"`
}

// Reaction counts one emoji on one message.
type Reaction struct {
	Emoji string `json:"emoji"`
	Count int    `json:"count"`
	Mine  bool   `json:"mine"`
}

var pageType = reflect.TypeFor[Page]()
