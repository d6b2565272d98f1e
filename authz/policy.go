package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/usher-authz/usher/policies"
)

// Policy is a compiled policy in force: the catalogue as data, and the prepared
// Rego queries. It is immutable, may be used from any number of goroutines, and
// is shared by all states that have its digest.
type Policy struct {
	source    policies.PolicyInForce
	index     policies.CatalogueIndex
	catalogue ast.Value // data.usher.catalogue
	// numbers are the places of the catalogue's actions in the bits of
	// Permissions, in the order of names.
	numbers map[policies.ActionName]int
	names   []policies.ActionName
	commons commons
	guarded *guarded
	limit   time.Duration // of one evaluation

	effective, levels, decision rego.PreparedEvalQuery
}

// NewPolicy verifies the digest of p and compiles its modules. They may use no
// builtin that reaches out of the process or is not the same each time, but for
// the clock, which is given (time.now_ns). An error says what does not compile.
func NewPolicy(ctx context.Context, p policies.PolicyInForce) (*Policy, error) {
	if err := p.Verify(); err != nil {
		return nil, err
	}
	compiler, speaks, err := compile(p.Modules)
	if err != nil {
		return nil, fmt.Errorf("compile the policy in force %s: %w", p.Digest, err)
	}
	index := p.Catalogue.Index()
	made := &Policy{source: p, index: index, catalogue: catalogueValue(p.Catalogue), names: index.Actions(), guarded: speaks, limit: evaluationLimit}
	made.numbers = make(map[policies.ActionName]int, len(made.names))
	for i, name := range made.names {
		made.numbers[name] = i
	}
	for query, to := range map[string]*rego.PreparedEvalQuery{
		"data.usher.authz.effective": &made.effective,
		"data.usher.authz.levels":    &made.levels,
		"[data.usher.authz.decision, [said | said := data.usher.authz.guardrails]]": &made.decision,
	} {
		*to, err = rego.New(
			rego.Query(query), rego.Compiler(compiler), rego.Store(viewStore{}), rego.StrictBuiltinErrors(true),
			rego.GenerateJSON(func(t *ast.Term, _ *rego.EvalContext) (any, error) { return t.Value, nil }),
		).PrepareForEval(ctx)
		if err != nil {
			return nil, fmt.Errorf("prepare %s of the policy in force %s: %w", query, p.Digest, err)
		}
	}
	return made, nil
}

// Capabilities are OPA's without what makes an answer depend on anything but its
// input, the data and the given time: http.send, look-ups, randomness, the runtime.
func Capabilities() *ast.Capabilities {
	limits := ast.CapabilitiesForThisVersion()
	limits.AllowNet = []string{}
	limits.Builtins = slices.DeleteFunc(limits.Builtins, func(b *ast.Builtin) bool {
		return b.Nondeterministic && b.Name != ast.NowNanos.Name
	})
	return limits
}

func catalogueValue(c policies.Catalogue) ast.Value {
	system, actions := ast.NewObject(), ast.NewObject()
	for _, p := range c.Policies {
		system.Insert(ast.StringTerm(string(p.ID)), ast.NewTerm(policyValue(p.Resources, p.Actions)))
		for _, name := range p.Actions {
			actions.Insert(ast.StringTerm(string(name)), ast.InternedTerm(true))
		}
	}
	return ast.NewObject([2]*ast.Term{keyPolicies, ast.NewTerm(system)}, [2]*ast.Term{keyActions, ast.NewTerm(actions)})
}

// Source is what the policy was compiled from. Do not change it.
func (p *Policy) Source() *policies.PolicyInForce { return &p.source }

// Digest is the digest of the source.
func (p *Policy) Digest() policies.Hash { return p.source.Digest }

// Catalogue is the index of the catalogue in force.
func (p *Policy) Catalogue() policies.CatalogueIndex { return p.index }

// KnowsAction tells whether the catalogue names the action.
func (p *Policy) KnowsAction(name policies.ActionName) bool {
	_, ok := p.numbers[name]
	return ok
}

// Effective evaluates data.usher.authz.effective over view at the time now. An
// unknown subject or resource is a result, not an error.
func (p *Policy) Effective(ctx context.Context, view View, now time.Time, subject policies.AccountID, resource policies.Resource) (*Effective, error) {
	q := Question{SubjectType: subjectAccount, Subject: string(subject), ResourceType: string(resource.Type), ResourceID: resource.ID}
	return p.effectiveOf(ctx, view, now, &q)
}

func (p *Policy) effectiveOf(ctx context.Context, view View, now time.Time, q *Question) (*Effective, error) {
	value, err := p.evaluate(ctx, &p.effective, view, now, request(q))
	if err != nil {
		return nil, fmt.Errorf("evaluate effective for %q on %s %q: %w", q.Subject, q.ResourceType, q.ResourceID, err)
	}
	return readEffective(value)
}

// Levels evaluates data.usher.authz.levels: nil unless the collaboration is
// active.
func (p *Policy) Levels(ctx context.Context, view View, now time.Time, subject policies.AccountID, resource policies.Resource) (*Levels, error) {
	q := Question{SubjectType: subjectAccount, Subject: string(subject), ResourceType: string(resource.Type), ResourceID: resource.ID}
	value, err := p.evaluate(ctx, &p.levels, view, now, request(&q))
	switch {
	case errors.Is(err, errUndefined):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("evaluate levels for %q on %s %q: %w", q.Subject, q.ResourceType, q.ResourceID, err)
	}
	return readLevels(value)
}

// Decision evaluates data.usher.authz.decision over view at the time now: the
// whole answer from Rego to all of the request, guardrails included, explained if q
// asks for it. Of a request that is none the reason is invalid_request.
func (p *Policy) Decision(ctx context.Context, view View, now time.Time, q Question) (Decision, error) {
	input, err := wholeRequest(&q)
	if err != nil { // no request at all, as for Rego what has parts of a wrong type
		return Decision{Reason: policies.ReasonInvalidRequest, Revision: view.Revision()}, nil //nolint:nilerr // a denial is the answer
	}
	value, err := p.evaluate(ctx, &p.decision, view, now, input)
	if err != nil {
		return Decision{}, fmt.Errorf("evaluate the decision for %q on %s %q: %w", q.Subject, q.ResourceType, q.ResourceID, err)
	}
	return readAnswer(value)
}

// Right is [Engine.Right] over view at the time now.
func (p *Policy) Right(ctx context.Context, view View, now time.Time, q Question) (bool, error) {
	found, err := p.effectiveOf(ctx, view, now, &q)
	if err != nil {
		return false, err
	}
	permissions, err := p.Compact(found, now)
	if err != nil {
		return false, err
	}
	return permissions.Decide(view, &q).Allow, nil
}

const subjectAccount = "account"

// evaluationLimit bounds one evaluation. They take far less than a millisecond;
// one that does not end must not hold those who wait for it.
const evaluationLimit = 5 * time.Second

var errUndefined = errors.New("no result from Rego")

// evaluate runs a prepared query with input as the AuthZEN request.
func (p *Policy) evaluate(ctx context.Context, query *rego.PreparedEvalQuery, view View, now time.Time, input ast.Value) (ast.Value, error) {
	ctx, done := context.WithTimeout(ctx, p.limit)
	defer done()
	cancel := topdown.NewCancel()
	stop := context.AfterFunc(ctx, cancel.Cancel)
	defer stop()
	results, err := query.Eval(ctx,
		rego.EvalTransaction(transaction{view}), rego.EvalParsedInput(input), rego.EvalTime(now),
		rego.EvalExternalCancel(cancel), rego.EvalMetrics(metrics.NoOp()))
	if err != nil {
		// A builtin function that was stopped says so in words of its own.
		if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
			err = fmt.Errorf("%w: %w", ended, err)
		}
		return nil, err
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, errUndefined
	}
	value, ok := results[0].Expressions[0].Value.(ast.Value)
	if !ok {
		return nil, errUndefined
	}
	return value, nil
}
