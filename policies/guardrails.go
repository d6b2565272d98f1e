package policies

import (
	"fmt"
	"maps"
	"strings"
)

// GuardrailsPath is where the modules of guardrails stand among those of a policy in
// force, and in the bundle. What stands elsewhere is the Rego that decides.
const GuardrailsPath = "usher/guardrails/"

// Guardrails are p's modules that are guardrails (file name in the bundle → source),
// empty if there are none. The map is the caller's.
func (p PolicyInForce) Guardrails() map[string]string {
	found := map[string]string{}
	for name, source := range p.Modules {
		if strings.HasPrefix(name, GuardrailsPath) {
			found[name] = source
		}
	}
	return found
}

// WithGuardrails is p with these modules in place of its guardrails, and with the
// digest of that; none: without guardrails. The error is a module that stands
// elsewhere, or of an invalid catalogue.
func (p PolicyInForce) WithGuardrails(modules map[string]string) (PolicyInForce, error) {
	all := maps.Clone(p.Modules)
	maps.DeleteFunc(all, func(name, _ string) bool { return strings.HasPrefix(name, GuardrailsPath) })
	for name, source := range modules {
		if !strings.HasPrefix(name, GuardrailsPath) {
			return PolicyInForce{}, fmt.Errorf("the module %q is no guardrail: those stand below %s", name, GuardrailsPath)
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = source
	}
	return NewPolicyInForce(p.Catalogue, all)
}
