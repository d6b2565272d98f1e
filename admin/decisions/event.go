package decisions

import (
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// event is what is read of an event in OPA's format (its EventV1). Everything that
// may be masked, or be another document's, is read leniently.
type event struct {
	Labels     map[string]jsontext.Value `json:"labels"`
	DecisionID string                    `json:"decision_id"`
	Path       string                    `json:"path"`
	Input      jsontext.Value            `json:"input"`
	Result     jsontext.Value            `json:"result"`
	Timestamp  time.Time                 `json:"timestamp"`
	Bundles    map[string]struct {
		Revision string `json:"revision"`
	} `json:"bundles"`
}

// evaluation is an AuthZEN request, as far as it is searched by.
type evaluation struct {
	Subject struct {
		ID string `json:"id"`
	} `json:"subject"`
	Action struct {
		Name string `json:"name"`
	} `json:"action"`
	Resource struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	} `json:"resource"`
}

// decision is the result of data.usher.authz.decision.
type decision struct {
	Decision *bool `json:"decision"`
	Context  struct {
		Reason   string             `json:"reason"`
		Revision *policies.Revision `json:"revision"`
	} `json:"context"`
}

// maxColumn bounds the columns that are searched by: what usher can have is shorter.
const maxColumn = 256

// read is the event as the store keeps it.
func read(raw jsontext.Value) (store.Logged, error) {
	// Names are those of the format, byte by byte: the event may have others.
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		return store.Logged{}, policies.Malformed(raw, err)
	}
	id := column(e.DecisionID)
	switch {
	case id == "" || id != e.DecisionID || len(id) > policies.MaxIDLength:
		return store.Logged{}, &policies.MalformedError{Where: "/decision_id", Reason: "must be a text of 1 to 128 characters"}
	case e.Timestamp.IsZero():
		return store.Logged{}, &policies.MalformedError{Where: "/timestamp", Reason: "must be the time of the decision"}
	}
	logged := store.Logged{
		ID: id, At: e.Timestamp, Path: column(e.Path), Outcome: store.OutcomeNone, Event: raw.Clone(), Instance: label(e.Labels, "id"),
	}
	// What does not fit is of another document, or masked.
	var asked evaluation
	if json.Unmarshal(e.Input, &asked) == nil {
		logged.Subject, logged.Action = column(asked.Subject.ID), column(asked.Action.Name)
		logged.ResourceType, logged.ResourceID = column(asked.Resource.Type), column(asked.Resource.ID)
	}
	logged.Outcome, logged.Reason, logged.Revision = e.outcome()
	return logged, nil
}

// outcome reads the result: of data.usher.authz.decision, or of allow.
func (e *event) outcome() (store.Outcome, string, *policies.Revision) {
	var allow *bool
	var reason string
	var revision *policies.Revision
	var whole decision
	switch e.Result.Kind() {
	case 't', 'f':
		allow = new(e.Result.Kind() == 't')
	case '{':
		if json.Unmarshal(e.Result, &whole) == nil {
			allow, reason, revision = whole.Decision, column(whole.Context.Reason), whole.Context.Revision
		}
	default: // no result, or another document's
	}
	if revision == nil && len(e.Bundles) == 1 {
		for _, b := range e.Bundles {
			if r, err := policies.ParseRevision(b.Revision); err == nil {
				revision = &r
			}
		}
	}
	switch {
	case allow == nil:
		return store.OutcomeNone, reason, revision
	case *allow:
		return store.OutcomeAllow, reason, revision
	}
	return store.OutcomeDeny, reason, revision
}

func label(labels map[string]jsontext.Value, name string) string {
	var text string
	if json.Unmarshal(labels[name], &text) != nil {
		return ""
	}
	return column(text)
}

// column is text as PostgreSQL takes it and an index holds it.
func column(text string) string {
	text = strings.ReplaceAll(text, "\x00", "�")
	if len(text) > maxColumn {
		text = strings.ToValidUTF8(text[:maxColumn], "")
	}
	return text
}
