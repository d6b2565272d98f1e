package policies

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"
)

//go:embed catalogue/system-policies.yaml
var embeddedCatalogue []byte

// EmbeddedCatalogue is the catalogue that this program was built with. It is in
// force only once `usher migrate` has put it there; decide by [PolicyInForce].
func EmbeddedCatalogue() (Catalogue, error) { return DecodeCatalogue(embeddedCatalogue) }

// DecodeCatalogue reads and validates a catalogue in YAML. It returns a
// [*MalformedError] or an [*InvalidError].
func DecodeCatalogue(data []byte) (Catalogue, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	var c Catalogue
	if err := dec.Decode(&c); err != nil {
		return Catalogue{}, &MalformedError{Reason: "is not a catalogue: " + err.Error()}
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Catalogue{}, &MalformedError{Reason: "is more than one YAML document"}
	}
	if err := c.Validate(); err != nil {
		return Catalogue{}, err
	}
	return c, nil
}

// Validate reports every invalid field of c in an [*InvalidError].
func (c Catalogue) Validate() error {
	var errs fieldErrors
	ids := make(map[PolicyID]bool, len(c.Policies))
	for i, p := range c.Policies {
		at := item("policies", i)
		if checkID(&errs, at+".id", p.ID); ids[p.ID] {
			errs.add(at+".id", "stands twice")
		}
		ids[p.ID] = true
		errs.name(at+".name", p.Name)
		errs.text(at+".path", p.Path)
		errs.text(at+".description", p.Description)
		errs.resourceTypes(at+".resources", p.Resources)
		errs.actions(at+".actions", p.Actions)
	}
	names := make(map[string]bool, len(c.Roles))
	for i, r := range c.Roles {
		at := item("roles", i)
		errs.name(at+".name", r.Name)
		if key := NameKey(r.Name); names[key] {
			errs.add(at+".name", "stands twice")
		} else {
			names[key] = true
		}
		errs.text(at+".description", r.Description)
		for j, id := range r.Policies {
			if !ids[id] {
				errs.add(item(at+".policies", j), quote(id)+" is not a policy of the catalogue")
			}
		}
	}
	return errs.err()
}

// NewPolicyInForce puts a catalogue and Rego modules (file name in the bundle →
// source) together and computes their digest. It returns an [*InvalidError] for
// an invalid catalogue.
func NewPolicyInForce(c Catalogue, modules map[string]string) (PolicyInForce, error) {
	if err := c.Validate(); err != nil {
		return PolicyInForce{}, err
	}
	p := PolicyInForce{Catalogue: c, Modules: maps.Clone(modules)}
	var err error
	p.Digest, err = p.digest()
	return p, err
}

// Verify checks that p's digest is that of its catalogue and modules.
func (p PolicyInForce) Verify() error {
	digest, err := p.digest()
	if err != nil {
		return err
	}
	if digest != p.Digest {
		return fmt.Errorf("the policy in force has digest %s, but says %s", digest, p.Digest)
	}
	return nil
}

func (p PolicyInForce) digest() (Hash, error) {
	value, err := CanonicalJSON(struct {
		Catalogue Catalogue         `json:"catalogue"`
		Modules   map[string]string `json:"modules"`
	}{p.Catalogue, p.Modules})
	if err != nil {
		return Hash{}, fmt.Errorf("encode the policy in force: %w", err)
	}
	return sha256.Sum256(value), nil
}

// CatalogueIndex answers questions about a catalogue by look-up. It is immutable
// and safe for concurrent use; the zero value is the index of an empty catalogue.
type CatalogueIndex struct {
	policies map[PolicyID]SystemPolicy
	actions  map[ActionName]bool
}

// Index makes c's index.
func (c Catalogue) Index() CatalogueIndex {
	x := CatalogueIndex{
		policies: make(map[PolicyID]SystemPolicy, len(c.Policies)),
		actions:  make(map[ActionName]bool),
	}
	for _, p := range c.Policies {
		x.policies[p.ID] = p
		for _, a := range p.Actions {
			x.actions[a] = true
		}
	}
	return x
}

// Policy is the system policy with this id.
func (x CatalogueIndex) Policy(id PolicyID) (SystemPolicy, bool) {
	p, ok := x.policies[id]
	return p, ok
}

// IsSystem tells whether id is a system policy's, and so reserved.
func (x CatalogueIndex) IsSystem(id PolicyID) bool {
	_, ok := x.policies[id]
	return ok
}

// KnowsAction tells whether a system policy names the action.
func (x CatalogueIndex) KnowsAction(name ActionName) bool { return x.actions[name] }

// Actions are all actions of the catalogue, sorted.
func (x CatalogueIndex) Actions() []ActionName { return slices.Sorted(maps.Keys(x.actions)) }
