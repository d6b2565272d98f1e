package decisionlog

import (
	"context"
	"encoding/json" //nolint:depguard // OPA's values hold its Number, and this is a map of what was read with care before
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// ruleLimit bounds the evaluation of the rules for one event.
const ruleLimit = time.Second

// Rules are data.system.log.drop and data.system.log.mask, compiled.
type Rules struct{ drop, mask rego.PreparedEvalQuery }

// NewRules compiles modules, by their names. They may reach nothing outside of the
// process.
func NewRules(ctx context.Context, modules map[string]string) (*Rules, error) {
	limits := ast.CapabilitiesForThisVersion()
	limits.AllowNet = []string{}
	builtins := limits.Builtins[:0:0]
	for _, b := range limits.Builtins {
		if !b.Nondeterministic || b.Name == ast.NowNanos.Name {
			builtins = append(builtins, b)
		}
	}
	limits.Builtins = builtins
	parsed := make(map[string]*ast.Module, len(modules))
	for name, source := range modules {
		module, err := ast.ParseModuleWithOpts(name, source, ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: limits})
		if err != nil {
			return nil, fmt.Errorf("the rules of the decision log: %w", err)
		}
		parsed[name] = module
	}
	compiler := ast.NewCompiler().WithCapabilities(limits).WithDefaultRegoVersion(ast.RegoV1)
	if compiler.Compile(parsed); compiler.Failed() {
		return nil, fmt.Errorf("the rules of the decision log: %w", compiler.Errors)
	}
	if len(compiler.GetRulesExact(ast.MustParseRef("data.system.log.drop")))+len(compiler.GetRulesExact(ast.MustParseRef("data.system.log.mask"))) == 0 {
		return nil, errors.New("the rules of the decision log have neither data.system.log.drop nor data.system.log.mask")
	}
	r := &Rules{}
	for query, to := range map[string]*rego.PreparedEvalQuery{"data.system.log.drop": &r.drop, "data.system.log.mask": &r.mask} {
		var err error
		if *to, err = rego.New(rego.Query(query), rego.Compiler(compiler), rego.StrictBuiltinErrors(true)).PrepareForEval(ctx); err != nil {
			return nil, fmt.Errorf("the rules of the decision log: %w", err)
		}
	}
	return r, nil
}

// apply is the event as it may be written; nil: not at all.
func (r *Rules) apply(ctx context.Context, event []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, ruleLimit)
	defer cancel()
	var parts map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(event)))
	decoder.UseNumber()
	if err := decoder.Decode(&parts); err != nil {
		return nil, fmt.Errorf("read the event again: %w", err)
	}
	input := rego.EvalInput(parts)
	dropped, err := r.drop.Eval(ctx, input)
	if err != nil {
		return nil, fmt.Errorf("evaluate data.system.log.drop: %w", err)
	}
	if dropped.Allowed() {
		return nil, nil
	}
	masks, err := r.mask.Eval(ctx, input)
	if err != nil {
		return nil, fmt.Errorf("evaluate data.system.log.mask: %w", err)
	}
	if len(masks) == 0 {
		return event, nil
	}
	all, ok := masks[0].Expressions[0].Value.([]any)
	if !ok {
		return nil, errors.New("data.system.log.mask is not a set")
	}
	if len(all) == 0 {
		return event, nil
	}
	for _, one := range all {
		if err := mask(parts, one); err != nil {
			return nil, err
		}
	}
	return json.Marshal(parts)
}

// mask takes out, or replaces, what rule names; nothing where that is not there.
func mask(event map[string]any, rule any) error {
	var pointer string
	op, value := "remove", any(nil)
	switch rule := rule.(type) {
	case string:
		pointer = rule
	case map[string]any:
		var ok bool
		if pointer, ok = rule["path"].(string); !ok {
			return errors.New("a rule of data.system.log.mask has no path")
		}
		if given, ok := rule["op"].(string); ok {
			op = given
		}
		value = rule["value"]
	default:
		return errors.New("data.system.log.mask has what is neither a string nor an object")
	}
	parts, err := steps(pointer)
	if err != nil {
		return err
	}
	switch {
	case op != "remove" && op != "upsert":
		return fmt.Errorf("data.system.log.mask has an op %q, neither remove nor upsert", op)
	case op == "remove":
		if _, ok := remove(event, parts); ok {
			note(event, "erased", pointer)
		}
	case op == "upsert" && upsert(event, parts, value):
		note(event, "masked", pointer)
	}
	return nil
}

// steps are the members that a pointer leads through.
func steps(pointer string) ([]string, error) {
	parts := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	if !strings.HasPrefix(pointer, "/") || parts[0] != "input" && parts[0] != "result" {
		return nil, fmt.Errorf("data.system.log.mask names %q, which does not begin with /input or /result", pointer)
	}
	for i, p := range parts {
		plain, err := url.PathUnescape(p)
		if err != nil {
			return nil, fmt.Errorf("data.system.log.mask names %q: %w", pointer, err)
		}
		parts[i] = plain
	}
	return parts, nil
}

func note(event map[string]any, name, pointer string) {
	list, _ := event[name].([]any)
	event[name] = append(list, pointer)
}

// remove takes what parts lead to out of node, and gives what is left; false: it is
// not there.
func remove(node any, parts []string) (any, bool) {
	last := len(parts) == 1
	switch v := node.(type) {
	case map[string]any:
		inner, ok := v[parts[0]]
		if ok && last {
			delete(v, parts[0])
		} else if ok {
			v[parts[0]], ok = remove(inner, parts[1:])
		}
		return v, ok
	case []any:
		i, err := strconv.Atoi(parts[0])
		if err != nil || i < 0 || i >= len(v) {
			return v, false
		}
		if last {
			return slices.Delete(v, i, i+1), true
		}
		var ok bool
		v[i], ok = remove(v[i], parts[1:])
		return v, ok
	}
	return node, false
}

// upsert sets what parts lead to in node, making the objects on the way; false: there
// is something else on the way.
func upsert(node any, parts []string, value any) bool {
	last := len(parts) == 1
	switch v := node.(type) {
	case map[string]any:
		if last {
			v[parts[0]] = value
			return true
		}
		if _, ok := v[parts[0]]; !ok {
			v[parts[0]] = map[string]any{}
		}
		return upsert(v[parts[0]], parts[1:], value)
	case []any:
		i, err := strconv.Atoi(parts[0])
		if err != nil || i < 0 || i >= len(v) {
			return false
		}
		if last {
			v[i] = value
			return true
		}
		return upsert(v[i], parts[1:], value)
	}
	return false
}
