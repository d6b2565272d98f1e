package authz

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/usher-authz/usher/policies"
)

// A reader takes a result of Rego apart. What is not of the expected shape is an
// error, the first of which it keeps: a result that is not understood is never an
// answer.
type reader struct {
	object ast.Object
	err    error
}

func read(value ast.Value) *reader {
	object, ok := value.(ast.Object)
	if !ok {
		return &reader{object: ast.NewObject(), err: fmt.Errorf("not an object from Rego: %v", value)}
	}
	return &reader{object: object}
}

// get gives a member's value, nil if there is none.
func (r *reader) get(name string) ast.Value {
	if term := r.object.Get(ast.InternedTerm(name)); term != nil {
		return term.Value
	}
	return nil
}

func (r *reader) fail(name string, value ast.Value) {
	if r.err == nil {
		r.err = fmt.Errorf("%s from Rego is %v", name, value)
	}
}

func readText[S ~string](r *reader, name string) S {
	value := r.get(name)
	text, ok := value.(ast.String)
	if value != nil && !ok {
		r.fail(name, value)
	}
	return S(text)
}

func (r *reader) flag(name string) bool {
	value := r.get(name)
	flag, ok := value.(ast.Boolean)
	if value != nil && !ok {
		r.fail(name, value)
	}
	return bool(flag)
}

func readTexts[S ~string](r *reader, name string) []S {
	value := r.get(name)
	if value == nil {
		return nil
	}
	array, ok := value.(*ast.Array)
	if !ok {
		r.fail(name, value)
		return nil
	}
	list := make([]S, 0, array.Len())
	array.Foreach(func(t *ast.Term) {
		text, ok := t.Value.(ast.String)
		if !ok {
			r.fail(name, value)
		}
		list = append(list, S(text))
	})
	return list
}

func readEffective(value ast.Value) (*Effective, error) {
	r := read(value)
	e := &Effective{
		Reason:            readText[policies.Reason](r, "reason"),
		Owner:             readText[policies.AccountID](r, "owner"),
		Level:             readText[policies.Level](r, "level"),
		Roles:             readTexts[string](r, "roles"),
		ReceiveLoadAlerts: r.flag("receive_load_alerts"),
		ValidUntil:        readText[string](r, "valid_until"),
	}
	if given := r.get("policies"); given != nil {
		e.Policies = readPolicies(r, given)
	}
	if r.err == nil && (e.Reason == "") != (e.Level != "") {
		r.err = fmt.Errorf("reason %q with level %q from Rego", e.Reason, e.Level)
	}
	return e, r.err
}

func readPolicies(r *reader, value ast.Value) []EffectivePolicy {
	given, ok := value.(ast.Object)
	if !ok {
		r.fail("policies", value)
		return nil
	}
	list := make([]EffectivePolicy, 0, given.Len())
	given.Foreach(func(id, actions *ast.Term) {
		name, isText := id.Value.(ast.String)
		of, isObject := actions.Value.(ast.Object)
		if !isText || !isObject {
			r.fail("policies", value)
			return
		}
		p := EffectivePolicy{ID: policies.PolicyID(name), Actions: make([]policies.ActionName, 0, of.Len())}
		of.Foreach(func(action, _ *ast.Term) {
			if name, ok := action.Value.(ast.String); ok {
				p.Actions = append(p.Actions, policies.ActionName(name))
			}
		})
		slices.Sort(p.Actions)
		list = append(list, p)
	})
	slices.SortFunc(list, func(a, b EffectivePolicy) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func readLevels(value ast.Value) (*Levels, error) {
	r := read(value)
	levels := &Levels{Direct: readTexts[string](r, "direct"), Base: readTexts[string](r, "base"), SharedEnvGroups: []GroupRoles{}}
	groups, ok := r.get("shared_env_groups").(*ast.Array)
	if !ok {
		r.fail("levels", value)
		return nil, r.err
	}
	groups.Foreach(func(t *ast.Term) {
		of := read(t.Value)
		levels.SharedEnvGroups = append(levels.SharedEnvGroups, GroupRoles{
			Group:         readText[policies.GroupID](of, "group"),
			Roles:         readTexts[string](of, "roles"),
			InheritedFrom: readText[string](of, "inherited_from"),
		})
		if of.err != nil && r.err == nil {
			r.err = of.err
		}
	})
	return levels, r.err
}

// readAnswer takes the pair apart that a decision is asked for as: the answer, and in a
// list what the guardrails say; nothing, if the Rego in force knows no guardrails.
func readAnswer(value ast.Value) (Decision, error) {
	pair, ok := value.(*ast.Array)
	if !ok || pair.Len() != 2 {
		return Decision{}, fmt.Errorf("not a decision from Rego: %v", value)
	}
	d, err := readDecision(pair.Elem(0).Value)
	if err != nil {
		return Decision{}, err
	}
	if said, ok := pair.Elem(1).Value.(*ast.Array); ok && said.Len() > 0 {
		r := read(said.Elem(0).Value)
		if observed := readTexts[string](r, "observe"); len(observed) > 0 {
			d.Observed = observed
		}
		if r.err != nil {
			return Decision{}, r.err
		}
	}
	return d, nil
}

func readDecision(value ast.Value) (Decision, error) {
	whole := read(value)
	allow, ok := whole.get("decision").(ast.Boolean)
	if !ok {
		whole.fail("decision", value)
	}
	if whole.err != nil {
		return Decision{}, whole.err
	}
	r := read(whole.get("context"))
	d := Decision{
		Allow:        bool(allow),
		Reason:       readText[policies.Reason](r, "reason"),
		Level:        readText[policies.Level](r, "level"),
		Roles:        readTexts[string](r, "roles"),
		Policies:     readTexts[policies.PolicyID](r, "policies"),
		Owner:        readText[policies.AccountID](r, "owner"),
		ValidUntil:   readText[string](r, "valid_until"),
		MissingRoles: readTexts[string](r, "missing_roles"),
		Guardrail:    readTexts[string](r, "guardrail"),
	}
	revision, ok := r.get("revision").(ast.Number)
	if !ok {
		r.fail("revision", value)
		return Decision{}, r.err
	}
	var err error
	if d.Revision, err = policies.ParseRevision(string(revision)); err != nil {
		r.fail("revision", revision)
	}
	if levels := r.get("levels"); levels != nil {
		if d.Levels, err = readLevels(levels); err != nil && r.err == nil {
			r.err = err
		}
	}
	if (d.Reason == policies.ReasonGuardrail) != (len(d.Guardrail) > 0) {
		r.fail("guardrail", value)
	}
	if allows := d.Reason == policies.ReasonOwner || d.Reason == policies.ReasonGranted; allows != d.Allow {
		r.fail("decision", value)
	}
	if r.err != nil {
		return Decision{}, r.err
	}
	return d, nil
}
