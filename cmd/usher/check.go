package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/usher-authz/usher/policies"
)

type sidecarAccess struct {
	SidecarURL string `help:"The sidecar to ask, e.g. http://127.0.0.1:8181." placeholder:"URL"`
	Token      string `help:"A service token."                                placeholder:"TOKEN"`
}

type checkCommand struct {
	sidecarAccess `embed:""`

	Subject     string `arg:"" help:"The account that asks."`
	Action      string `arg:"" help:"The action, e.g. environment.control.StartEnv."`
	Resource    string `arg:"" help:"TYPE:ID; types: environment, group, environments, groups, account." name:"type:id"`
	Explain     bool   `help:"Print the why as a table: which roles were found on which level."`
	MinRevision uint64 `help:"Answer from this revision or a later one." placeholder:"N"`
}

// Help is shown by --help below the options.
func (*checkCommand) Help() string {
	return "Exit code: 0 allowed, 1 denied, 2 error.\n\n" +
		"Example: usher check --explain ben environment.control.StartEnv environment:shop-web-prod"
}

type named struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

type evaluationRequest struct {
	Subject  named             `json:"subject"`
	Action   evaluationAction  `json:"action"`
	Resource named             `json:"resource"`
	Context  evaluationContext `json:"context"`
}

type evaluationAction struct {
	Name string `json:"name"`
}

type evaluationContext struct {
	MinRevision uint64 `json:"min_revision,omitzero"`
	Explain     bool   `json:"explain,omitzero"`
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

// Run asks and prints; a denial is an exitError without a message.
func (c *checkCommand) Run(ctx context.Context, p *Process) error {
	kind, id, ok := strings.Cut(c.Resource, ":")
	if !ok || kind == "" || id == "" {
		return fmt.Errorf("%q is not TYPE:ID, e.g. environment:shop-web-prod", c.Resource)
	}
	sidecar, err := newClient("sidecar-url", c.SidecarURL, c.Token)
	if err != nil {
		return err
	}
	var answer evaluation
	err = sidecar.postJSON(ctx, "/access/v1/evaluation", evaluationRequest{
		Subject: named{"account", c.Subject}, Action: evaluationAction{c.Action}, Resource: named{kind, id},
		Context: evaluationContext{MinRevision: c.MinRevision, Explain: c.Explain},
	}, &answer)
	if err != nil {
		return err
	}
	if answer.Context.Reason == "" {
		return errors.New("the answer has no reason: is --sidecar-url the URL of a usher sidecar?")
	}
	if c.Explain {
		if err := c.table(p.Stdout, answer); err != nil {
			return err
		}
	} else if _, err := fmt.Fprintln(p.Stdout, verdict(answer)+": "+string(answer.Context.Reason)); err != nil {
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
func (c *checkCommand) table(w io.Writer, e evaluation) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(t, "%s\t%s\n", name, value) // a tabwriter tells at Flush
		}
	}
	d := e.Context
	row("decision", verdict(e))
	row("reason", string(d.Reason)+" ("+meaning(d.Reason)+")")
	row("subject", c.Subject)
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
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
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
	case policies.ReasonInvalidRequest:
		return "the request is not well-formed"
	case policies.ReasonRevisionNotReached:
		return "the revision asked for is not here yet"
	}
	return "a reason that this usher does not know"
}
