package guardrails

import (
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// The names of the rules that are guardrails.
const (
	deny    = "deny"
	observe = "observe"
)

var (
	packageRef   = ast.MustParseRef("data.usher.guardrails")
	effectiveRef = ast.MustParseRef("data.usher.authz.effective")
)

// checkModule looks at what holds for a module as a whole, and at the form of its rules.
func (f *faults) checkModule(m *ast.Module) {
	where := m.Package.Location
	if !m.Package.Path.HasPrefix(packageRef) {
		f.at(where, fmt.Sprintf("is of package %s: write package usher.guardrails, or one below it", m.Package.Path[1:]))
		return
	}
	below := m.Package.Path[len(packageRef):]
	if len(below) > 0 && isGuardrailName(below[0]) {
		f.at(where, "is of a package that is called as the rules are: give it another name")
		return
	}
	for _, rule := range m.Rules {
		switch ref := rule.Head.Ref(); {
		case !isGuardrailName(ref[0]):
		case len(below) > 0:
			f.at(rule.Location, fmt.Sprintf("%s would be heard of nobody here: write it in package usher.guardrails", ref))
		case rule.Default, len(ref) != 1, rule.Head.RuleKind() != ast.MultiValue, rule.Else != nil:
			f.at(rule.Location, fmt.Sprintf("%s is not of the form `%s contains reason if {…}`", ref, ref[0].Value))
		default:
			f.checkReason(rule)
		}
	}
}

func isGuardrailName(t *ast.Term) bool {
	switch name := t.Value.(type) {
	case ast.Var:
		return name == deny || name == observe
	case ast.String:
		return name == deny || name == observe
	default:
		return false
	}
}

// checkReason refuses what is no text, where it can be seen: else to evaluate it fails.
func (f *faults) checkReason(rule *ast.Rule) {
	switch rule.Head.Key.Value.(type) {
	case ast.Null, ast.Boolean, ast.Number, *ast.Array, ast.Object, ast.Set, *ast.ArrayComprehension, *ast.ObjectComprehension, *ast.SetComprehension:
		f.at(rule.Location, fmt.Sprintf("%s gives %s: a reason is a text", rule.Head.Name, rule.Head.Key))
	}
}

// actionsOf are the actions that a rule's annotation names; every: it names "*".
func (f *faults) actionsOf(rule *ast.Rule) (actions []policies.ActionName, every bool) {
	fault := func(reason string) ([]policies.ActionName, bool) {
		f.at(rule.Location, rule.Head.Name.String()+" "+reason)
		return nil, false
	}
	var given any
	for _, a := range rule.Annotations {
		if a.Scope == "rule" {
			given = a.Custom["actions"]
		}
	}
	const form = "# METADATA, # custom:, #   actions: [environment.control.DeleteEnv], or [\"*\"] for every action"
	list, ok := given.([]any)
	if !ok || len(list) == 0 {
		return fault("does not say for which actions it speaks: put above it an annotation, " + form)
	}
	for _, item := range list {
		name, ok := item.(string)
		switch {
		case ok && name == "*" && len(list) == 1:
			return nil, true
		case ok && name == "*":
			return fault(`speaks for "*" and for others: "*" stands alone`)
		case !ok || !policies.ValidActionName(name):
			return fault(fmt.Sprintf("speaks for %v, which is no action's name: name each action, or \"*\" alone for every one", item))
		}
		actions = append(actions, policies.ActionName(name))
	}
	slices.Sort(actions)
	return slices.Compact(actions), false
}

// compile lets OPA's compiler look at the modules without those that decide, and looks
// at what they refer to. (The whole is compiled before it is put in force.)
func (f *faults) compile(modules map[string]*ast.Module) {
	compiler := ast.NewCompiler().WithCapabilities(authz.Capabilities()).WithDefaultRegoVersion(ast.RegoV1)
	if compiler.Compile(modules); compiler.Failed() {
		f.addAST("", compiler.Errors)
		return
	}
	for _, module := range compiler.Modules {
		ast.WalkRefs(module, func(ref ast.Ref) bool {
			if ref[0].Equal(ast.DefaultRootDocument) && !ref.HasPrefix(packageRef) && !ref.HasPrefix(effectiveRef) && !module.Package.Path.Equal(ref) {
				f.add(module.Package.Location.File, lineOf(ref, module), fmt.Sprintf(
					"reads %s: of the data a guardrail may read %s, and what stands in package usher.guardrails", ref, effectiveRef))
			}
			return false
		})
	}
}

func lineOf(ref ast.Ref, m *ast.Module) int {
	if at := ref[0].Location; at != nil {
		return at.Row
	}
	return m.Package.Location.Row
}
