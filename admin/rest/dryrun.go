package rest

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/admin/difference"
	"github.com/usher-authz/usher/admin/rights"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const (
	parameterDryRun = "dry_run"
	// maxImpact is how many pairs of member and resource an impact lists.
	maxImpact = 1000
)

// impactView is the answer to a dry run.
type impactView struct {
	Impact    []impactItem `json:"impact" doc:"Who would gain and lose what, as far as the caller may see it; pending members as if they had accepted."`
	Truncated bool         `json:"truncated" doc:"There is more than this."`
}

type impactItem struct {
	Member   *policies.CollaborationID `json:"member,omitzero" doc:"The collaboration's id; absent for one that the write would make."`
	Account  *policies.AccountID       `json:"account,omitzero" doc:"The member's account, once known."`
	Resource policies.Resource         `json:"resource"`
	Gained   []policies.ActionName     `json:"gained"`
	Lost     []policies.ActionName     `json:"lost"`
}

// dryRun reads the parameter: whether the write is only tried.
func dryRun(r *request) (bool, error) {
	return boolean(r.URL.Query().Get(parameterDryRun)).value(parameterDryRun)
}

// tried is the answer to a dry run, which takes the place of the handler's.
type tried struct {
	impactView

	header http.Header
}

// Error says what takes the place of the handler's answer.
func (*tried) Error() string { return "a dry run" }

// GetStatus is 200.
func (*tried) GetStatus() int { return http.StatusOK }

// GetHeaders is what huma sends along.
func (t *tried) GetHeaders() http.Header { return t.header }

// MarshalJSON is the view's.
func (t *tried) MarshalJSON() ([]byte, error) { return json.Marshal(t.impactView) }

// tryOut answers a dry run.
func (a *API) tryOut(ctx context.Context, r *request) error {
	view := impactView{Impact: []impactItem{}}
	if r.trial != nil {
		var err error
		if view, err = a.impact(ctx, r, r.trial); err != nil {
			return err
		}
	}
	return &tried{view, http.Header{headerRevision: {r.tried.String()}}}
}

var errEnough = errors.New("enough")

// impact is what would follow from a write, as far as the caller may see it: of a
// member's on resources whose collaborators it may list, and of itself.
func (a *API) impact(ctx context.Context, r *request, trial *store.Trial) (impactView, error) {
	sees, err := a.sightOf(ctx, r, policies.AccountID(r.PathValue("account")))
	if err != nil {
		return impactView{}, err
	}
	view := impactView{Impact: []impactItem{}}
	err = trial.Each(ctx, difference.Options{Now: a.engine.Now(), As: difference.Accepted}, func(d difference.Difference) error {
		listed, err := sees.may(ctx, rights.GetMembers, d.Resource)
		if err != nil {
			return err
		}
		if !listed && (d.Account == "" || d.Account != sees.member) {
			return nil
		}
		if len(view.Impact) == maxImpact {
			return errEnough
		}
		item := impactItem{Resource: d.Resource, Gained: append([]policies.ActionName{}, d.Gained...), Lost: append([]policies.ActionName{}, d.Lost...)}
		if !slices.Contains(trial.New, d.Member) {
			item.Member = &d.Member
		}
		if d.Account != "" {
			item.Account = &d.Account
		}
		view.Impact = append(view.Impact, item)
		return nil
	})
	var limit *difference.LimitError
	if errors.Is(err, errEnough) || errors.As(err, &limit) {
		view.Truncated, err = true, nil
	}
	return view, err
}

// documentDryRun adds the parameter, and the answer beside the usual one.
func (a *API) documentDryRun(o *huma.Operation) {
	o.Parameters = append(o.Parameters, &huma.Param{Ref: "#/components/parameters/DryRun"})
	schema := a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[impactView](), true, "")
	ok := strconv.Itoa(http.StatusOK)
	usual := o.Responses[ok]
	if usual == nil || usual.Content[mediaJSON] == nil {
		o.Responses[ok] = &huma.Response{
			Description: "With dry_run: the impact.", Content: map[string]*huma.MediaType{mediaJSON: {Schema: schema}},
		}
		return
	}
	both := *usual
	both.Description = usual.Description + "; with dry_run: the impact."
	both.Content = map[string]*huma.MediaType{mediaJSON: {Schema: &huma.Schema{AnyOf: []*huma.Schema{usual.Content[mediaJSON].Schema, schema}}}}
	o.Responses[ok] = &both
}
