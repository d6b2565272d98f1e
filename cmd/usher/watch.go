package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/errgroup"
)

const (
	// reconnectPause is after a connection that ended, doubled up to the longest.
	reconnectPause        = time.Second
	longestReconnectPause = 30 * time.Second
	maxEventBytes         = 64 << 20
)

type watchCommand struct {
	adminAccess `embed:""`

	Account   string `help:"Follow one account only." placeholder:"ID"`
	Decisions bool   `help:"Follow logged decisions too, as they come in; with --account those on what it owns."`
	Outcome   string `help:"With --decisions: only those with this outcome, allow or deny." placeholder:"OUTCOME"`
	After     string `help:"Begin after this revision, instead of now." placeholder:"REVISION"`
	Count     int    `help:"End after this many changes and decisions; 0: never." placeholder:"N"`
	Output    string `default:"table" enum:"table,json" help:"How changes are printed: ${enum}; json: an event a line."`
}

// Help is shown by --help below the options.
func (*watchCommand) Help() string {
	return "The token needs the scope audit, for the changes of one account collaboration. A connection that breaks goes on where it was.\n\n" +
		"Example: usher watch --account northwind --decisions --outcome deny"
}

// watched is the data of an event.
type watched struct {
	Revision uint64    `json:"revision"`
	Time     time.Time `json:"time"`
	Action   string    `json:"action"`
	ActedAs  string    `json:"acted_as"`
	Actor    struct {
		Token     string `json:"token"`
		TokenName string `json:"token_name"`
		Local     bool   `json:"local"`
	} `json:"actor"`
	Resource struct {
		Kind  string `json:"kind"`
		ID    string `json:"id"`
		Owner string `json:"owner"`
	} `json:"resource"`
	Before jsontext.Value `json:"before"`
	After  jsontext.Value `json:"after"`
}

// loggedDecision is the data of an event.
type loggedDecision struct {
	Time     time.Time `json:"time"`
	Subject  string    `json:"subject"`
	Action   string    `json:"action"`
	Resource named     `json:"resource"`
	Outcome  string    `json:"outcome"`
	Reason   string    `json:"reason"`
	Revision uint64    `json:"revision"`
	Event    struct {
		Result jsontext.Value `json:"result"`
	} `json:"event"`
}

// owner is whose the resource is, as the answer said.
func (d *loggedDecision) owner() string {
	var result struct {
		Context struct {
			Owner string `json:"owner"`
		} `json:"context"`
	}
	_ = json.Unmarshal(d.Event.Result, &result) // another document of an OPA has none
	return result.Context.Owner
}

// watch is one run.
type watch struct {
	command *watchCommand
	admin   *client
	stderr  io.Writer

	mu      sync.Mutex // of what follows
	out     io.Writer
	titled  bool // the table has its first line
	printed int  // changes and decisions
}

// following is one connection after the other, to one stream of events.
type following struct {
	*watch

	path string
	last string // id of the last event
	show func(name, data string) error
}

// errEnough ends a run that was to print so many.
var errEnough = errors.New("enough changes")

// Run prints what comes until ctx ends.
func (c *watchCommand) Run(ctx context.Context, p *Process) error {
	admin, err := newClient("admin-url", c.AdminURL, c.Token)
	if err != nil {
		return err
	}
	if c.Outcome != "" && !c.Decisions {
		return errors.New("--outcome is of decisions: give --decisions too")
	}
	w := &watch{command: c, admin: admin, out: p.Stdout, stderr: p.Stderr}
	changes := &following{watch: w, path: "/v1/events", last: c.After, show: w.showChange}
	if c.Account != "" {
		changes.path = "/v1/accounts/" + url.PathEscape(c.Account) + "/events"
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return changes.follow(ctx) })
	if c.Decisions {
		decisions := &following{watch: w, path: "/v1/decisions/events", show: w.showDecision}
		if c.Outcome != "" {
			decisions.path += "?outcome=" + url.QueryEscape(c.Outcome)
		}
		all.Go(func() error { return decisions.follow(ctx) })
	}
	if err := all.Wait(); !errors.Is(err, errEnough) {
		return err
	}
	return nil
}

// follow connects again and again, until ctx ends or there was enough.
func (f *following) follow(ctx context.Context) error {
	pause := reconnectPause
	for {
		before := f.last
		err := f.connect(ctx)
		var refused *statusError
		switch {
		case errors.Is(err, errEnough):
			return err
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was told to end
		case errors.As(err, &refused) && refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests:
			return err
		case f.last == "": // nothing was ever heard
			return err
		}
		if f.last != before {
			pause = reconnectPause
		}
		_, _ = fmt.Fprintf(f.stderr, "usher: the connection ended (%v), and begins anew\n", err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		pause = min(2*pause, longestReconnectPause)
	}
}

// connect follows over one connection.
func (f *following) connect(ctx context.Context) error {
	resp, err := f.admin.do(ctx, http.MethodGet, f.path, "", nil, lastEventID(f.last))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var name, id string
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEventBytes)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "id":
			id = value
		case "event":
			name = value
		case "data":
			if err := f.show(name, value); err != nil {
				return err
			}
			f.last = id
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// showChange prints an event of what changed.
func (w *watch) showChange(name, data string) error {
	var e watched
	if err := w.decode(data, &e); err != nil {
		return err
	}
	return w.print(name, data, func() error { return w.row(name, e) })
}

// showDecision prints an event of a logged decision.
func (w *watch) showDecision(name, data string) error {
	var d loggedDecision
	if err := w.decode(data, &d); err != nil {
		return err
	}
	switch {
	case name == "decision" && w.command.Account != "" && d.owner() != w.command.Account:
		return nil
	case name == "reset":
		return w.print(name, data, func() error {
			_, err := fmt.Fprintln(w.out, "the admin server does not have the place to go on from: decisions that came in before now are not shown")
			return err
		})
	case name != "decision": // the changes have a ready of their own
		return nil
	}
	return w.print(name, data, func() error {
		_, err := fmt.Fprintf(w.out, row, d.Revision, d.Time.UTC().Format(time.RFC3339), cmp.Or(d.Subject, "-"), cmp.Or(d.Action, "-"),
			fmt.Sprintf("%s: %s (%s)", d.Resource, d.Outcome, cmp.Or(d.Reason, "-")))
		return err
	})
}

func (w *watch) decode(data string, into any) error {
	if err := json.Unmarshal([]byte(data), into); err != nil {
		return fmt.Errorf("%s sent something else than an event: %w", w.admin.base, err)
	}
	return nil
}

// row is the form of the table; the widths are those of what is usual, as nobody
// knows what comes.
const row = "%-10v  %-20s  %-20s  %-22s  %s\n"

// print prints an event, as a row or as it is; errEnough after the last that is wanted.
func (w *watch) print(name, data string, row func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.command.Count > 0 && w.printed >= w.command.Count {
		return errEnough
	}
	if w.command.Output == "json" {
		if _, err := fmt.Fprintf(w.out, `{"event":%q,"data":%s}`+"\n", name, data); err != nil {
			return err
		}
	} else if err := row(); err != nil {
		return err
	}
	if name == "change" || name == "decision" {
		w.printed++
	}
	if w.command.Count > 0 && w.printed >= w.command.Count {
		return errEnough
	}
	return nil
}

func (w *watch) row(name string, e watched) error {
	switch name {
	case "change":
	case "ready":
		if !w.titled {
			w.titled = true
			_, err := fmt.Fprintf(w.out, row, "REVISION", "TIME", "BY", "ACTION", "OBJECT")
			return err
		}
		return nil
	default: // reset
		_, err := fmt.Fprintf(w.out, "the log does not have the place to go on from: what came before revision %d is not shown\n", e.Revision)
		return err
	}
	by := e.ActedAs
	switch {
	case by != "":
	case e.Actor.TokenName != "":
		by = e.Actor.TokenName
	case e.Actor.Token != "":
		by = e.Actor.Token
	case e.Actor.Local:
		by = "usher"
	default:
		by = "-"
	}
	object := e.Resource.Kind + " " + e.Resource.ID
	if e.Resource.Owner != "" && e.Resource.Owner != e.Resource.ID {
		object += " of " + e.Resource.Owner
	}
	switch {
	case string(e.Before) == "null" && string(e.After) != "null":
		object += " (new)"
	case string(e.After) == "null":
		object += " (deleted)"
	}
	_, err := fmt.Fprintf(w.out, row, e.Revision, e.Time.UTC().Format(time.RFC3339), by, e.Action, object)
	return err
}

// lastEventID asks to go on after an event.
func lastEventID(id string) func(*http.Request) {
	return func(r *http.Request) {
		if id != "" {
			r.Header.Set("Last-Event-ID", id)
		}
	}
}
