package guardrails

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/usher-authz/usher/authz"
)

// write gives the source of m with the condition of every guardrail in its body. All
// else stays as it was written, comments included. What came out is read again: it must
// be the module with the conditions, and nothing else.
func (f *faults) write(name, source string, m *ast.Module) string {
	want := m.Copy()
	made := source
	// From the end on, so that places before stay right.
	for i, rule := range slices.Backward(m.Rules) {
		if !isGuardrailName(rule.Head.Ref()[0]) {
			continue
		}
		actions, every := f.actionsOf(rule)
		if every || len(actions) == 0 {
			continue
		}
		if has, ok := authz.ConditionOf(rule); ok && slices.Equal(has, actions) {
			continue
		}
		condition := authz.Condition(actions)
		end := rule.Location.Offset + len(rule.Location.Text)
		made = source[:rule.Location.Offset] + conditioned(rule, condition) + made[end:]
		prepend(want.Rules[i], condition)
	}
	again, err := parse(name, made)
	if len(*f) == 0 && (err != nil || !again.Equal(want)) {
		f.add(name, 0, "is written in a way that the conditions cannot be put into: write each rule as `deny contains reason if {…}`, a condition a line")
	}
	return made
}

// conditioned is the text of rule with the condition at the head of its body.
func conditioned(rule *ast.Rule, condition string) string {
	text := string(rule.Location.Text)
	at := rule.Body[0].Location.Offset - rule.Location.Offset
	switch {
	case isImplied(rule):
		return text + " if " + condition
	case at <= 0 || at > len(text):
		return text // and so not what is wanted
	}
	inside := text[:at] + condition + "\n\t" + text[at:]
	if isOneRule(inside, len(rule.Body)+1) {
		return inside
	}
	return text[:at] + "{\n\t" + condition + "\n\t" + text[at:] + "\n}"
}

// isImplied tells whether the rule has no body, which is one that is true.
func isImplied(rule *ast.Rule) bool {
	return len(rule.Body) == 1 && rule.Body[0].Location.Offset <= rule.Location.Offset
}

// isOneRule tells whether text is a rule with so many expressions: what was put in front
// of the first one stands in the same body.
func isOneRule(text string, expressions int) bool {
	m, err := parse("", "package p\n\n"+text)
	return err == nil && len(m.Rules) == 1 && len(m.Rules[0].Body) == expressions
}

// prepend puts the condition into the rule itself.
func prepend(rule *ast.Rule, condition string) {
	body := ast.MustParseBodyWithOpts(condition, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if !isImplied(rule) {
		body = append(body, rule.Body...)
	}
	for i := range body {
		body[i].Index = i
	}
	rule.Body = body
}
