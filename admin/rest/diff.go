package rest

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/usher-authz/usher/admin/difference"
	"github.com/usher-authz/usher/admin/history"
	"github.com/usher-authz/usher/policies"
)

const (
	// maxDiff is how many differences one answer has.
	maxDiff = 10_000
	// maxDiffAccounts is how many accounts one answer looks at.
	maxDiffAccounts = 1000
	diffBatch       = 1000
)

type diffView struct {
	Owner    policies.AccountID       `json:"owner"`
	Member   policies.CollaborationID `json:"member"`
	Account  policies.AccountID       `json:"account,omitzero" doc:"The member's account; absent while no account has the address."`
	Resource policies.Resource        `json:"resource"`
	Gained   difference.Actions       `json:"gained,omitzero"`
	Lost     difference.Actions       `json:"lost,omitzero"`
}

type diffAnswer struct {
	From      policies.Revision `json:"from"`
	To        policies.Revision `json:"to"`
	Items     []diffView        `json:"items"`
	Truncated bool              `json:"truncated,omitzero" doc:"There is more: name an account, or less of the log."`
}

type diffQuery struct {
	From    string                `query:"from" required:"true" doc:"The earlier revision."`
	To      string                `query:"to" required:"true" doc:"The later revision."`
	Account policies.AccountID    `query:"account" doc:"Only what belongs to this account."`
	Type    policies.ResourceType `query:"type" doc:"Only resources of this type."`
	ID      string                `query:"id" maxLength:"128" doc:"Only resources with this id."`
}

func (a *API) diffOperations() {
	register(a, spec{
		id: "diff", method: http.MethodGet, path: "/audit/diff", tag: tagAudit, summary: "Show which permissions differ between two revisions",
		description: "Who gained and lost which actions on which resources from one revision to a later one, both as of the later one's time. " +
			"The states are rebuilt out of the log.",
		scope: policies.ScopeAudit, who: whoServices, read: true, errors: []int{http.StatusUnprocessableEntity},
	}, a.diff)
}

// errEnoughDiff ends a walk that found more than an answer has.
var errEnoughDiff = errors.New("more differences than one answer has")

func (a *API) diff(ctx context.Context, _ *request, q *diffQuery, _ *none) (*shown[diffAnswer], error) {
	from, to, err := a.revisions(ctx, q)
	if err != nil {
		return nil, err
	}
	answer := diffAnswer{From: from, To: to, Items: []diffView{}}
	owners := []policies.AccountID{q.Account}
	if q.Account == "" {
		if owners, answer.Truncated, err = a.touchedOwners(ctx, from, to); err != nil {
			return nil, err
		}
	}
	changes, err := a.store.TouchedAfter(ctx, to-1, 1)
	if err != nil {
		return nil, err
	}
	now := a.engine.Now()
	if len(changes) > 0 {
		now = changes[0].Time
	}
	reader := history.Reader{Log: a.store, Policy: a.engine.State().Policy()}
	for _, owner := range owners {
		err := reader.Between(ctx, owner, from, to, now, func(d difference.Difference) error {
			if q.Type != "" && d.Resource.Type != q.Type || q.ID != "" && d.Resource.ID != q.ID {
				return nil
			}
			if len(answer.Items) == maxDiff {
				return errEnoughDiff
			}
			answer.Items = append(answer.Items, diffView{
				Owner: d.Owner, Member: d.Member, Account: d.Account, Resource: d.Resource, Gained: d.Gained, Lost: d.Lost,
			})
			return nil
		})
		var tooMany *difference.LimitError
		if errors.Is(err, errEnoughDiff) || errors.As(err, &tooMany) {
			answer.Truncated = true
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return show("", answer), nil
}

// revisions are the two that are asked for, which the log must have.
func (a *API) revisions(ctx context.Context, q *diffQuery) (from, to policies.Revision, err error) {
	if err := a.fresh(ctx); err != nil {
		return 0, 0, err
	}
	var faults []policies.FieldError
	parse := func(name, text string) (r policies.Revision) {
		r, err := policies.ParseRevision(text)
		if err != nil {
			faults = append(faults, policies.FieldError{Field: name, Reason: "must be a whole number from 0 to 2^53-1"})
		}
		return r
	}
	from, to = parse("from", q.From), parse("to", q.To)
	for name, r := range map[string]policies.Revision{"from": from, "to": to} {
		_, ok, err := a.store.RevisionHash(ctx, r)
		if err != nil {
			return 0, 0, err
		}
		if len(faults) == 0 && (!ok || r > a.engine.State().Revision() || to == 0) {
			faults = append(faults, policies.FieldError{Field: name, Reason: "is a revision that the log does not have"})
		}
	}
	if len(faults) == 0 && from > to {
		faults = append(faults, policies.FieldError{Field: "from", Reason: "must not be later than to"})
	}
	return from, to, policies.Invalid(faults)
}

// touchedOwners are the accounts that changed, in order, and whether there are more.
// What changes the policy in force may mean something for every account.
func (a *API) touchedOwners(ctx context.Context, from, to policies.Revision) (owners []policies.AccountID, more bool, err error) {
	seen := map[policies.AccountID]bool{}
	for at := from; at < to; {
		touched, err := a.store.TouchedAfter(ctx, at, diffBatch)
		if err != nil {
			return nil, false, err
		}
		for _, t := range touched {
			if t.Revision > to {
				break
			}
			if strings.HasPrefix(t.Action, "policy_in_force") && from > 0 {
				return nil, false, invalid("account", "is needed: the policy in force changed between these revisions, which concerns every account")
			}
			for _, owner := range t.Owners {
				if owner != "" && !seen[owner] {
					seen[owner] = true
					owners = append(owners, owner)
				}
			}
		}
		if len(touched) == 0 {
			break
		}
		at = touched[len(touched)-1].Revision
	}
	slices.Sort(owners)
	if len(owners) > maxDiffAccounts {
		return owners[:maxDiffAccounts], true, nil
	}
	return owners, false, nil
}
