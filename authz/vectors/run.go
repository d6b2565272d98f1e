package vectors

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// Result is how a check went. No difference: it passed.
type Result struct {
	Check       Check
	Differences []Difference
}

// Difference is a part of an answer that is not as expected.
type Difference struct {
	Field    string `json:"field"`
	Expected string `json:"expected"`
	Found    string `json:"found"`
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: expected %s, found %s", d.Field, d.Expected, d.Found)
}

// Decider answers one question; an [authz.Engine] does, and so does a client of a
// sidecar.
type Decider interface {
	Check(ctx context.Context, atLeast policies.Revision, q authz.Question) (authz.Decision, error)
}

// Runner runs checks, and notes what they exercise.
type Runner struct {
	Policy   *authz.Policy // of worlds
	Results  []Result
	Coverage Coverage
}

// World runs the checks of w on its data. The error is of the documents, which do not
// fit together.
func (r *Runner) World(ctx context.Context, w *World) error {
	state, err := State(ctx, r.Policy, w.Documents)
	if err != nil {
		return fmt.Errorf("the world %q: %w", w.Name, err)
	}
	engine, err := Engine(state, w.Now)
	if err != nil {
		return err
	}
	r.Coverage.Add(state.PlatformData())
	return r.Run(ctx, engine, w.Checks)
}

// Engine answers from a state, at a time; zero is the present.
func Engine(state *authz.State, now time.Time) (*authz.Engine, error) {
	var options authz.Options
	if !now.IsZero() {
		options.Clock = func() time.Time { return now }
	}
	engine, err := authz.New(options)
	if err != nil {
		return nil, err
	}
	return engine, engine.Reset(state)
}

// Run runs checks. The error is of a question that has no answer.
func (r *Runner) Run(ctx context.Context, decider Decider, checks []Check) error {
	for _, c := range checks {
		found, err := decider.Check(ctx, 0, c.Question)
		if err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
		r.Coverage.exercised(&found)
		r.Results = append(r.Results, Result{Check: c, Differences: c.differences(&found)})
	}
	return nil
}

// Failed counts the checks that did not pass.
func (r *Runner) Failed() int {
	failed := 0
	for i := range r.Results {
		if len(r.Results[i].Differences) > 0 {
			failed++
		}
	}
	return failed
}

// String is where the check stands, and what it asks.
func (c Check) String() string {
	where := c.File
	if c.Line > 0 {
		where = fmt.Sprintf("%s:%d", c.File, c.Line)
	}
	if c.World != "" {
		where += ": " + c.World
	}
	return where + ": " + c.Title()
}

// Title is the check's name, or its question.
func (c Check) Title() string {
	if c.Name != "" {
		return c.Name
	}
	return fmt.Sprintf("%s %s %s:%s", c.Question.Subject, c.Question.Action, c.Question.ResourceType, c.Question.ResourceID)
}

func (c Check) differences(d *authz.Decision) (all []Difference) {
	differ := func(field, expected, found string) {
		if expected != found {
			all = append(all, Difference{field, expected, found})
		}
	}
	differ("decision", verdict(c.Allow), verdict(d.Allow))
	if c.Reason != nil {
		differ("reason", orNone(string(*c.Reason)), orNone(string(d.Reason)))
	} else if c.Allow != d.Allow {
		all = append(all, Difference{"reason", "any", string(d.Reason)}) // it tells why
	}
	if c.Level != nil {
		differ("level", orNone(string(*c.Level)), orNone(string(d.Level)))
	}
	if c.Roles != nil {
		differ("roles", listed(*c.Roles), listed(d.Roles))
	}
	if c.Policies != nil {
		differ("policies", listed(*c.Policies), listed(d.Policies))
	}
	if c.Owner != nil {
		differ("owner", orNone(string(*c.Owner)), orNone(string(d.Owner)))
	}
	return all
}

func verdict(allow bool) string {
	if allow {
		return "allow"
	}
	return "deny"
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// listed is a list for people, whatever its order.
func listed[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, text := range list {
		texts[i] = string(text)
	}
	slices.Sort(texts)
	return orNone(strings.Join(texts, ", "))
}
