package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

func (t *tool) sendCmd() *cobra.Command {
	var tenant, as, to string
	c := &cobra.Command{Use: "send TEXT", Short: "Send a message as somebody, and wait until it is stored", Args: exactArgs("TEXT"),
		Long: "Sends TEXT (- reads it from standard input) to a conversation: its id, its title, or @username.",
		Example: `  pipit send "Lunch is at twelve." --as office --to "All staff"
  pipit send "Hello!" --as ann --to @bob`,
		RunE: func(cmd *cobra.Command, args []string) error {
			text := args[0]
			if text == "-" {
				b, err := io.ReadAll(io.LimitReader(t.in, 1<<20))
				if err != nil {
					return fmt.Errorf("read the text: %w", err)
				}
				text = strings.TrimSuffix(string(b), "\n")
			}
			if to == "" {
				return usageError{errors.New("say to whom: --to CONVERSATION or --to @username")}
			}
			s, err := t.as(cmd, tenant, as, client.Handler{})
			if err != nil {
				return err
			}
			sent, err := s.deliver(cmd.Context(), to, text)
			if err = errors.Join(err, s.end()); err != nil {
				return err
			}
			return t.answer(sent, func() { fmt.Fprintf(t.out, "Stored as number %d of %s.\n", sent.Seq, sent.Conversation) })
		}}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&as, "as", "", "`USERNAME` to send as")
	c.Flags().StringVar(&to, "to", "", "`CONVERSATION`: id, title, or @username")
	return c
}

// stored is the answer of send.
type stored struct {
	Conversation im.ConvID `json:"conversation"`
	Seq          im.Seq    `json:"seq"`
	Time         im.Millis `json:"time"`
}

func (s *session) deliver(ctx context.Context, to, text string) (stored, error) {
	head, err := s.find(ctx, to)
	if err != nil {
		return stored{}, err
	}
	sent, err := s.Send(ctx, client.Outgoing{Conversation: head.ID, Text: text})
	return stored{Conversation: head.ID, Seq: sent.Seq, Time: sent.Time}, err
}

func (t *tool) tailCmd() *cobra.Command {
	var tenant, as string
	var last int
	c := &cobra.Command{Use: "tail CONVERSATION", Short: "Watch a conversation live, as somebody who is in it", Args: exactArgs("CONVERSATION"),
		Long: "Shows the last messages of a conversation (its id, its title, or @username) and then each new one, until interrupted.\n" +
			"With --json, one entry a line.",
		Example: "  pipit tail \"All staff\" --as office",
		RunE: func(cmd *cobra.Command, args []string) error {
			// Ends the handler's wait below, so that end does not wait for it.
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			entries := make(chan *im.Message, 256)
			s, err := t.as(cmd, tenant, as, client.Handler{
				Entry: func(m *im.Message) {
					select {
					case entries <- m:
					case <-ctx.Done():
					}
				},
				Down: func(err error, retry time.Duration) {
					if retry >= 0 {
						fmt.Fprintln(t.err, "Connection lost; trying again.")
					}
				},
			})
			if err != nil {
				return err
			}
			err = t.follow(ctx, s, args[0], last, entries)
			cancel()
			return errors.Join(err, s.end())
		}}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&as, "as", "", "`USERNAME` to watch as")
	c.Flags().IntVarP(&last, "lines", "n", 20, "`COUNT` of earlier messages to show, up to 200")
	return c
}

func (t *tool) follow(ctx context.Context, s *session, name string, last int, entries <-chan *im.Message) error {
	head, err := s.find(ctx, name)
	if err != nil {
		return err
	}
	names, err := s.names(ctx, head.ID)
	if err != nil {
		return err
	}
	shown := im.Seq(0)
	show := func(m *im.Message) error {
		if m.Conv != head.ID || m.Seq <= shown {
			return nil
		}
		shown = m.Seq
		if names[m.By] == "" { // joined meanwhile
			if fresh, err := s.names(ctx, head.ID); err == nil {
				names = fresh
			}
		}
		return t.line(m, names)
	}
	if last > 0 {
		err := s.Call(ctx, wire.MethodHistory, &wire.HistoryParams{Conversation: head.ID, Limit: min(last, im.MaxHistoryPage)}, func(result []byte) error {
			page, err := wire.DecodePage(result)
			for i := range page.Entries {
				err = errors.Join(err, show(&page.Entries[i]))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for {
		select {
		case m := <-entries:
			if err := show(m); err != nil {
				return err
			}
		case <-s.Done():
			return s.Err()
		case <-ctx.Done():
			return nil
		}
	}
}

// names returns the names of a conversation's members.
func (s *session) names(ctx context.Context, conv im.ConvID) (map[im.UserID]string, error) {
	names := map[im.UserID]string{}
	for p := (&wire.MembersParams{ID: conv, Limit: im.MaxMembersPage}); ; {
		err := s.Call(ctx, wire.MethodMembers, p, func(result []byte) error {
			list, next, err := wire.DecodeMembersResult(result)
			for _, m := range list {
				names[m.User] = m.Name
			}
			p.Cursor = next
			return err
		})
		if err != nil || p.Cursor == "" {
			return names, err
		}
	}
}

// line prints one entry.
func (t *tool) line(m *im.Message, names map[im.UserID]string) error {
	if t.json {
		_, err := fmt.Fprintf(t.out, "%s\n", wire.AppendMessage(nil, m, m.Conv))
		return err
	}
	who := func(id im.UserID) string {
		if n := names[id]; n != "" {
			return printable(n)
		}
		return string(id)
	}
	what := ""
	switch m.Kind {
	case im.EntryMessage:
		what = strings.Join(strings.Split(m.Shown(), "\n"), " ⏎ ")
		if m.Recalled {
			what = "(recalled)"
		} else if m.Edited != 0 {
			what += " (edited)"
		}
	case im.EntryEdit:
		what = fmt.Sprintf("edits %d: %s", m.Target, m.Shown())
	case im.EntryRecall:
		what = fmt.Sprintf("recalls %d", m.Target)
	case im.EntryReaction:
		what = fmt.Sprintf("%s on %d", m.Emoji, m.Target)
		if !m.On {
			what = "takes back " + what
		}
	case im.EntryPin:
		what = fmt.Sprintf("pins %d", m.Target)
		if !m.On {
			what = fmt.Sprintf("unpins %d", m.Target)
		}
	case im.EntryMember:
		what = fmt.Sprintf("%s: %s %s", who(m.User), m.Change, m.Role)
	case im.EntryMeta:
		what = "title: " + m.Title
	}
	at := time.UnixMilli(int64(m.Time)).Format("15:04:05")
	_, err := fmt.Fprintf(t.out, "%s %6d  %s: %s\n", at, m.Seq, who(m.By), printable(what))
	return err
}
