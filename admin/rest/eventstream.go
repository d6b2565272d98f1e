package rest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/policies"
)

const (
	mediaEvents = "text/event-stream"
	// eventsTimeout is how long what is written at once may take to be read by the
	// caller: who is slower is cut, and goes on by Last-Event-ID.
	eventsTimeout = 20 * time.Second
	// heartbeatInterval is between two comments, and so the longest time between two
	// looks at whether the caller still may.
	heartbeatInterval = 15 * time.Second
)

// LastEvent is where a stream of events goes on.
type LastEvent struct {
	LastEventID string `header:"Last-Event-ID" doc:"The id of the last event that came; goes on after it."` //nolint:tagliatelle // HTTP's own name
}

// stream is an answer that the handler writes itself.
type stream struct{ Body func(huma.Context) }

// eventStream is one connection that gets server-sent events.
type eventStream struct {
	api     *API
	r       *request
	control *http.ResponseController
}

// stream answers with what run writes, if there is a place among those who follow.
func (s *eventStream) stream(places chan struct{}, run func()) (*stream, error) {
	select {
	case places <- struct{}{}:
	default:
		return nil, NewProblem(problemTooMany, "Too many connections follow what happens here.")
	}
	return &stream{Body: func(huma.Context) {
		defer func() { <-places }()
		w := s.r.w
		s.control = http.NewResponseController(w)
		w.Header().Set("Content-Type", mediaEvents)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Accel-Buffering", "no") // nginx passes events on at once
		w.WriteHeader(http.StatusOK)
		if s.r.Method != http.MethodHead {
			run()
		}
	}}, nil
}

// authenticated tells whether the credentials are still good, and the same caller's.
func (s *eventStream) authenticated(ctx context.Context) error {
	caller, err := s.api.authenticate(ctx, s.r)
	if err != nil {
		return err
	}
	if caller.account() != s.r.caller.account() {
		return &policies.ForbiddenError{Reason: "The credentials are another account's now."}
	}
	return nil
}

// write sends what is in out, in bounded time.
func (s *eventStream) write(out *bytes.Buffer) error {
	// A writer without deadlines is a test's.
	_ = s.control.SetWriteDeadline(time.Now().Add(eventsTimeout))
	if _, err := s.r.w.Write(out.Bytes()); err != nil {
		return err
	}
	return s.control.Flush()
}

// alive is a comment, which keeps a connection open.
func alive() *bytes.Buffer { return bytes.NewBufferString(": alive\n\n") }

// writeEvent writes one event.
func writeEvent(out *bytes.Buffer, name, id string, data any) {
	text, err := json.Marshal(data)
	if err != nil { // all of it was decoded before
		return
	}
	fmt.Fprintf(out, "id: %s\nevent: %s\ndata: %s\n\n", id, name, text)
}
