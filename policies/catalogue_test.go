package policies_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/policies"
)

func TestEmbeddedCatalogue(t *testing.T) {
	t.Parallel()
	c, err := policies.EmbeddedCatalogue()
	require.NoError(t, err)
	require.Len(t, c.Policies, 42)
	require.Len(t, c.Roles, 5)
	x := c.Index()
	require.Len(t, x.Actions(), 345)
	require.True(t, slices.IsSorted(x.Actions()))
	require.True(t, x.KnowsAction("environment.control.StartEnv"))
	require.False(t, x.KnowsAction("environment.control.startenv"))
	require.True(t, x.IsSystem("account.members"))
	require.False(t, x.IsSystem("acme.promote"))
	p, ok := x.Policy("environment.create")
	require.True(t, ok)
	require.Equal(t, []policies.ResourceType{"group", "environments"}, p.Resources)

	agreed, err := os.ReadFile(filepath.Join("..", "..", "shared", "catalogue", "system-policies.yaml"))
	if os.IsNotExist(err) {
		return // a checkout by itself
	}
	require.NoError(t, err)
	ours, err := os.ReadFile(filepath.Join("catalogue", "system-policies.yaml"))
	require.NoError(t, err)
	require.Equal(t, string(agreed), string(ours))
}

func TestZeroIndex(t *testing.T) {
	t.Parallel()
	var x policies.CatalogueIndex
	require.False(t, x.IsSystem("a"))
	require.False(t, x.KnowsAction("a"))
}

func TestDecodeCatalogueRefuses(t *testing.T) {
	t.Parallel()
	const policy = "{id: p, name: P, resources: [group], actions: [a]}"
	for yaml, reason := range map[string]string{
		"":                                "is not a catalogue: EOF",
		"policies: [":                     "is not a catalogue",
		"policies: {}":                    "is not a catalogue",
		"polices: []":                     "is not a catalogue",
		"policies: [{id: p, actons: []}]": "is not a catalogue",
		"policies: []\npolicies: []":      "is not a catalogue",
		"policies: []\n---\nroles: []":    "is more than one YAML document",
		"policies: [" + policy + ", " + policy + "]":                                              "policies[1].id stands twice",
		"policies: [{id: ' ', name: '', resources: [planet], actions: ['a b']}]":                  `policies[0].id must be 1 to 128 of A-Z a-z 0-9 . _ : @ - and begin with a letter or a digit; policies[0].name must not be empty; policies[0].resources[0] must be one of [environment group environments groups account]; policies[0].actions[0] must be an action name`,
		"policies: [" + policy + "]\nroles: [{name: R, policies: [q]}, {name: r, policies: [p]}]": `roles[0].policies[0] "q" is not a policy of the catalogue; roles[1].name stands twice`,
	} {
		_, err := policies.DecodeCatalogue([]byte(yaml))
		requireTyped(t, err)
		require.Contains(t, err.Error(), reason)
	}
}

func TestPolicyInForce(t *testing.T) {
	t.Parallel()
	c, err := policies.EmbeddedCatalogue()
	require.NoError(t, err)
	p, err := policies.NewPolicyInForce(c, map[string]string{"a.rego": "package a"})
	require.NoError(t, err)
	require.NoError(t, p.Verify())
	again, err := policies.NewPolicyInForce(c, map[string]string{"a.rego": "package a"})
	require.NoError(t, err)
	require.Equal(t, p.Digest, again.Digest)

	for name, alter := range map[string]func(*policies.PolicyInForce){
		"module":    func(p *policies.PolicyInForce) { p.Modules = map[string]string{"a.rego": "package b"} },
		"file name": func(p *policies.PolicyInForce) { p.Modules = map[string]string{"b.rego": "package a"} },
		"catalogue": func(p *policies.PolicyInForce) { p.Catalogue.Policies = p.Catalogue.Policies[1:] },
	} {
		altered := p
		alter(&altered)
		require.ErrorContains(t, altered.Verify(), "but says "+p.Digest.String(), name)
	}
	c.Policies = append(slices.Clone(c.Policies), c.Policies[0])
	_, err = policies.NewPolicyInForce(c, nil)
	require.EqualError(t, err, "policies[42].id stands twice")
}
