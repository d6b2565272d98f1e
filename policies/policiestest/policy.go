package policiestest

import (
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/rego"
)

// PolicyInForce is the embedded catalogue with the embedded Rego.
func PolicyInForce() (policies.PolicyInForce, error) {
	catalogue, err := policies.EmbeddedCatalogue()
	if err != nil {
		return policies.PolicyInForce{}, err
	}
	return policies.NewPolicyInForce(catalogue, rego.Modules())
}
