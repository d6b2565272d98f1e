package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// reconnectPause is after a connection that ended, doubled up to the longest.
	reconnectPause        = time.Second
	longestReconnectPause = 30 * time.Second
	maxEventBytes         = 64 << 20
)

type watchCommand struct {
	adminAccess `embed:""`

	Account string `help:"Follow one account only." placeholder:"ID"`
	After   string `help:"Begin after this revision, instead of now." placeholder:"REVISION"`
	Count   int    `help:"End after this many changes; 0: never." placeholder:"N"`
	Output  string `default:"table" enum:"table,json" help:"How changes are printed: ${enum}; json: an event a line."`
}

// Help is shown by --help below the options.
func (*watchCommand) Help() string {
	return "The token needs the scope audit, for one account collaboration. A connection that breaks goes on where it was.\n\n" +
		"Example: usher watch --account northwind"
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

// watch is one run.
type watch struct {
	command *watchCommand
	admin   *client
	out     io.Writer
	last    string // id of the last event
	printed int    // changes
}

// errEnough ends a run that was to print so many.
var errEnough = errors.New("enough changes")

// Run prints changes until ctx ends.
func (c *watchCommand) Run(ctx context.Context, p *Process) error {
	admin, err := newClient("admin-url", c.AdminURL, c.Token)
	if err != nil {
		return err
	}
	w := &watch{command: c, admin: admin, out: p.Stdout, last: c.After}
	pause := reconnectPause
	for {
		before := w.last
		err := w.connect(ctx)
		var refused *statusError
		switch {
		case ctx.Err() != nil || errors.Is(err, errEnough):
			return nil //nolint:nilerr // it was told to end
		case errors.As(err, &refused) && refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests:
			return err
		case w.last == "": // nothing was ever heard
			return err
		}
		if w.last != before {
			pause = reconnectPause
		}
		_, _ = fmt.Fprintf(p.Stderr, "usher: the connection ended (%v), and begins anew\n", err)
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
func (w *watch) connect(ctx context.Context) error {
	path := "/v1/events"
	if w.command.Account != "" {
		path = "/v1/accounts/" + url.PathEscape(w.command.Account) + "/events"
	}
	resp, err := w.admin.do(ctx, http.MethodGet, path, "", nil, lastEventID(w.last))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var name string
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEventBytes)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "id":
			w.last = value
		case "event":
			name = value
		case "data":
			var event watched
			if err := json.Unmarshal([]byte(value), &event); err != nil {
				return fmt.Errorf("%s sent something else than an event: %w", w.admin.base, err)
			}
			if err := w.print(name, value, event); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// row is the form of the table; the widths are those of what is usual, as nobody
// knows what comes.
const row = "%-10v  %-20s  %-20s  %-22s  %s\n"

// print prints an event; errEnough after the last that is wanted.
func (w *watch) print(name, data string, e watched) error {
	if w.command.Output == "json" {
		if _, err := fmt.Fprintf(w.out, `{"event":%q,"data":%s}`+"\n", name, data); err != nil {
			return err
		}
	} else if err := w.row(name, e); err != nil {
		return err
	}
	if name == "change" {
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
		if w.printed == 0 {
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
