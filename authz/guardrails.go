package authz

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/usher-authz/usher/policies"
)

// guardrailsRef is the package of guardrails, data.usher.guardrails.
var guardrailsRef = ast.MustParseRef("data.usher.guardrails")

// guarded are the actions for which there are guardrails: only for them Rego is asked
// once more, with all of the request. nil: there are no guardrails.
type guarded struct {
	every bool // a rule speaks for every action
	names map[policies.ActionName]bool
}

// has tells whether a guardrail speaks for the action.
func (g *guarded) has(action string) bool {
	return g != nil && (g.every || g.names[policies.ActionName(action)])
}

// Guards tells whether a guardrail speaks for the action: an allow for it is then not
// the last word, and [Policy.Decision] is.
func (p *Policy) Guards(action string) bool { return p.guarded.has(action) }

// guards tells whether a guardrail may have its say in a search.
func (p *Policy) guards(s *Search) bool {
	return p.guarded != nil && (s.Sought == SoughtActions || p.guarded.has(s.Question.Action))
}

// guardedBy finds what the rules speak for by the condition that package guardrails
// puts at their head, which is also what they go by. A rule without it speaks for every
// action.
func guardedBy(modules map[string]*ast.Module) *guarded {
	var found *guarded
	for _, module := range modules {
		for _, rule := range module.Rules {
			if !isGuardrail(module, rule) {
				continue
			}
			if found == nil {
				found = &guarded{names: map[policies.ActionName]bool{}}
			}
			actions, ok := ConditionOf(rule)
			found.every = found.every || !ok
			for _, name := range actions {
				found.names[name] = true
			}
		}
	}
	return found
}

// isGuardrail tells whether rule makes something of data.usher.guardrails.deny or
// observe, however it is written.
func isGuardrail(module *ast.Module, rule *ast.Rule) bool {
	path := module.Package.Path.Extend(rule.Head.Ref()).GroundPrefix()
	n := len(guardrailsRef)
	if !path[:min(n, len(path))].Equal(guardrailsRef[:min(n, len(path))]) {
		return false
	}
	return len(path) <= n || path[n].Equal(ast.InternedTerm("deny")) || path[n].Equal(ast.InternedTerm("observe"))
}

// Condition is the Rego by which a guardrail speaks for these actions alone.
func Condition(actions []policies.ActionName) string {
	quoted := make([]string, len(actions))
	for i, name := range actions {
		quoted[i] = ast.String(name).String()
	}
	return "input.action.name in {" + strings.Join(quoted, ", ") + "}"
}

// actionName is what a condition looks at.
var actionName = ast.MustParseTerm("input.action.name")

// ConditionOf reads the [Condition] at the head of a rule's body; false: there is none.
func ConditionOf(rule *ast.Rule) (actions []policies.ActionName, ok bool) {
	if len(rule.Body) == 0 || rule.Else != nil {
		return nil, false
	}
	first := rule.Body[0]
	if first.Negated || len(first.With) > 0 || !first.IsCall() || !first.Operator().Equal(ast.Member.Ref()) ||
		len(first.Operands()) != 2 || !first.Operand(0).Equal(actionName) {
		return nil, false
	}
	set, ok := first.Operand(1).Value.(ast.Set)
	if !ok {
		return nil, false
	}
	for _, term := range set.Slice() {
		name, ok := term.Value.(ast.String)
		if !ok {
			return nil, false
		}
		actions = append(actions, policies.ActionName(name))
	}
	return actions, true
}

// compile parses and compiles modules without what makes an answer depend on anything
// but its input, the data and the given time, and finds what is guarded.
func compile(modules map[string]string) (*ast.Compiler, *guarded, error) {
	limits := Capabilities()
	parsed := make(map[string]*ast.Module, len(modules))
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		module, err := ast.ParseModuleWithOpts(name, modules[name], ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: limits})
		if err != nil {
			return nil, nil, err
		}
		parsed[name] = module
	}
	speaks := guardedBy(parsed)
	compiler := ast.NewCompiler().WithCapabilities(limits).WithDefaultRegoVersion(ast.RegoV1)
	if compiler.Compile(parsed); compiler.Failed() {
		return nil, nil, compiler.Errors
	}
	return compiler, speaks, nil
}
