package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

type sidecarAccess struct {
	SidecarURL string `help:"The sidecar to ask, e.g. http://127.0.0.1:8181." placeholder:"URL"`
	AdminURL   string `help:"The admin server: it tells whose an email address is that is given for an account." placeholder:"URL"`
	Token      string `help:"A service token." placeholder:"TOKEN"`
}

// accountOf is the account that subject names: an id, or, where there is an admin
// server to ask, an email address. What is neither is taken for an id, which nobody
// has.
func (a *sidecarAccess) accountOf(ctx context.Context, subject string) (string, error) {
	if !strings.Contains(subject, "@") || a.AdminURL == "" {
		return subject, nil
	}
	admin, err := newClient("admin-url", a.AdminURL, a.Token)
	if err != nil {
		return "", err
	}
	// Ids may look like addresses: a name is first an id, as elsewhere.
	var refused *statusError
	err = admin.getJSON(ctx, "/v1/accounts/"+url.PathEscape(subject), &struct{}{})
	if err == nil || !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		return subject, err
	}
	var found list[struct {
		ID string `json:"id"`
	}]
	err = admin.getJSON(ctx, "/v1/accounts?"+url.Values{"email": {subject}}.Encode(), &found)
	if errors.As(err, &refused) && refused.Status == http.StatusUnprocessableEntity { // it is no address
		return subject, nil
	}
	if err != nil || len(found.Items) == 0 {
		return subject, err
	}
	return found.Items[0].ID, nil
}

type checkCommand struct {
	sidecarAccess `embed:""`

	Subject     string `arg:"" help:"The account that asks: its id, or its email address where --admin-url is given."`
	Action      string `arg:"" help:"The action, e.g. environment.control.StartEnv." predictor:"action"`
	Resource    string `arg:"" help:"TYPE:ID; types: environment, group, environments, groups, account." name:"type:id"`
	Explain     bool   `help:"Print the why as a table: which roles were found on which level."`
	MinRevision uint64 `help:"Answer from this revision or a later one." placeholder:"N"`
	Context     string `help:"The request's context, a JSON object, for guardrails, which read it." placeholder:"JSON"`
	Output      string `default:"text" enum:"text,json" help:"How the answer is printed: ${enum}; json: as the sidecar gives it."`
}

// Help is shown by --help below the options.
func (*checkCommand) Help() string {
	return "Exit code: 0 allowed, 1 denied, 2 error: no answer, which is never a yes.\n\n" +
		"Example: usher check --explain ben environment.control.StartEnv environment:shop-web-eu"
}

// named is an entity; without an id, any of the type.
type named struct {
	Type string `json:"type"`
	ID   string `json:"id,omitzero"`
}

// parseResource reads TYPE:ID.
func parseResource(text string) (named, error) {
	kind, id, ok := strings.Cut(text, ":")
	if !ok || kind == "" || id == "" {
		return named{}, fmt.Errorf("%q is not TYPE:ID, e.g. environment:shop-web-eu", text)
	}
	return named{kind, id}, nil
}

func (n named) String() string { return n.Type + ":" + n.ID }

type evaluationRequest struct {
	Subject  named            `json:"subject"`
	Action   evaluationAction `json:"action"`
	Resource named            `json:"resource"`
	Context  map[string]any   `json:"context,omitzero"`
}

type evaluationAction struct {
	Name string `json:"name"`
}

type evaluation struct {
	Decision bool            `json:"decision"`
	Context  decisionContext `json:"context"`
}

type decisionContext struct {
	Reason       policies.Reason     `json:"reason"`
	Level        policies.Level      `json:"level"`
	Roles        []string            `json:"roles"`
	Policies     []policies.PolicyID `json:"policies"`
	Owner        policies.AccountID  `json:"owner"`
	Revision     policies.Revision   `json:"revision"`
	ValidUntil   string              `json:"valid_until"`
	Levels       *levels             `json:"levels"`
	MissingRoles []string            `json:"missing_roles"`
	Guardrail    []string            `json:"guardrail"`
}

type levels struct {
	Direct          []string     `json:"direct"`
	SharedEnvGroups []groupLevel `json:"shared_env_groups"`
	Base            []string     `json:"base"`
}

type groupLevel struct {
	Group         string   `json:"group"`
	Roles         []string `json:"roles"`
	InheritedFrom string   `json:"inherited_from"`
}

// request is what is asked.
func (c *checkCommand) request(ctx context.Context) (evaluationRequest, error) {
	resource, err := parseResource(c.Resource)
	if err != nil {
		return evaluationRequest{}, err
	}
	given := map[string]any{}
	if c.Context != "" {
		if err := json.Unmarshal([]byte(c.Context), &given); err != nil || given == nil {
			return evaluationRequest{}, fmt.Errorf("--context must be a JSON object, e.g. '{\"ticket\": \"OPS-1\"}', not %q", c.Context)
		}
	}
	if c.MinRevision > 0 {
		given["min_revision"] = c.MinRevision
	}
	if c.Explain {
		given["explain"] = true
	}
	subject, err := c.accountOf(ctx, c.Subject)
	return evaluationRequest{
		Subject: named{"account", subject}, Action: evaluationAction{c.Action}, Resource: resource, Context: given,
	}, err
}

// Run asks and prints; a denial is an exitError without a message.
func (c *checkCommand) Run(ctx context.Context, p *Process) error {
	sidecar, err := newClient("sidecar-url", c.SidecarURL, c.Token)
	if err != nil {
		return err
	}
	asked, err := c.request(ctx)
	if err != nil {
		return err
	}
	var raw jsontext.Value
	if err := sidecar.postJSON(ctx, pathEvaluation, asked, &raw); err != nil {
		return err
	}
	var answer evaluation
	if err := json.Unmarshal(raw, &answer); err != nil || answer.Context.Reason == "" {
		return errors.New("the answer has no reason: is --sidecar-url the URL of a usher sidecar?")
	}
	switch {
	case c.Output == "json":
		_, err = fmt.Fprintf(p.Stdout, "%s\n", raw)
	case c.Explain:
		err = c.table(p.Stdout, asked, answer)
	default:
		_, err = fmt.Fprintln(p.Stdout, strings.Join(append([]string{verdict(answer), string(answer.Context.Reason)}, answer.Context.Guardrail...), ": "))
	}
	if err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	if !answer.Decision {
		return &exitError{Code: 1}
	}
	return nil
}

func verdict(e evaluation) string {
	if e.Decision {
		return "allow"
	}
	return "deny"
}

// table prints every field that the answer has, then what stands on each level.
func (c *checkCommand) table(w io.Writer, asked evaluationRequest, e evaluation) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(t, "%s\t%s\n", name, value) // a tabwriter tells at Flush
		}
	}
	d := e.Context
	row("decision", verdict(e))
	row("reason", string(d.Reason)+" ("+meaning(d.Reason)+")")
	row("guardrail", strings.Join(d.Guardrail, "; "))
	row("subject", asked.Subject.ID)
	row("action", c.Action)
	row("resource", c.Resource)
	row("owner", string(d.Owner))
	row("level", string(d.Level))
	row("roles", strings.Join(d.Roles, ", "))
	granting := make([]string, len(d.Policies))
	for i, id := range d.Policies {
		granting[i] = string(id)
	}
	row("policies", strings.Join(granting, ", "))
	row("valid until", d.ValidUntil)
	row("missing", missingRoles(d))
	row("revision", d.Revision.String())
	if d.Levels != nil {
		_, _ = fmt.Fprintf(t, "\nLEVEL\tFOUND ON\tROLES\n")
		for _, l := range d.Levels.rows(c.Resource) {
			_, _ = fmt.Fprintln(t, strings.Join(l, "\t"))
		}
	}
	return t.Flush()
}

func missingRoles(d decisionContext) string {
	switch {
	case len(d.MissingRoles) > 0:
		return "any of the roles " + strings.Join(d.MissingRoles, ", ")
	case d.Reason == policies.ReasonActionNotGranted || d.Reason == policies.ReasonNotShared:
		return "no role of the owner allows it"
	}
	return ""
}

// rows is a line for each place where roles were looked for, highest level
// first.
func (l *levels) rows(resource string) [][]string {
	or := func(roles []string) string {
		if len(roles) == 0 {
			return "-"
		}
		return strings.Join(roles, ", ")
	}
	rows := [][]string{{string(policies.LevelDirect), resource, or(l.Direct)}}
	for _, g := range l.SharedEnvGroups {
		place := "group:" + g.Group
		switch g.InheritedFrom {
		case "":
		case string(policies.TypeGroups):
			place += " (by all groups)"
		default:
			place += " (by group:" + g.InheritedFrom + ")"
		}
		rows = append(rows, []string{string(policies.LevelSharedEnvGroups), place, or(g.Roles)})
	}
	if len(l.SharedEnvGroups) == 0 {
		rows = append(rows, []string{string(policies.LevelSharedEnvGroups), "-", "-"})
	}
	return append(rows, []string{string(policies.LevelBase), "all environments", or(l.Base)})
}

// meaning says a reason in words.
func meaning(r policies.Reason) string {
	switch r {
	case policies.ReasonOwner:
		return "the account owns the resource"
	case policies.ReasonGranted:
		return "a policy of these roles allows the action"
	case policies.ReasonUnknownSubject:
		return "no such account"
	case policies.ReasonUnknownResource:
		return "no such resource"
	case policies.ReasonUnknownAction:
		return "neither the catalogue nor a custom policy of the owner names the action"
	case policies.ReasonNoCollaboration:
		return "the owner shares nothing with the account"
	case policies.ReasonCollaborationPending:
		return "the invitation is not accepted yet"
	case policies.ReasonCollaborationSuspended:
		return "the owner suspended the collaboration"
	case policies.ReasonCollaborationLeft:
		return "the member left"
	case policies.ReasonCollaborationRejected:
		return "the invitation was rejected"
	case policies.ReasonCollaborationExpired:
		return "the invitation expired"
	case policies.ReasonCollaborationRemoved:
		return "the owner removed the member"
	case policies.ReasonNotShared:
		return "no role is granted on any level"
	case policies.ReasonActionNotGranted:
		return "the roles of the winning level do not allow the action"
	case policies.ReasonGuardrail:
		return "the roles allow it, and the platform's guardrails do not"
	case policies.ReasonInvalidRequest:
		return "the request is not well-formed"
	case policies.ReasonRevisionNotReached:
		return "the revision asked for is not here yet"
	}
	return "a reason that this usher does not know"
}
