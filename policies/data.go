package policies

import (
	"iter"
	"math/big"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// AccountData is data.usher.accounts[owner]: one owner's part of the data that
// the Rego reads, in the layout that it relies on. Nothing in it is needed but for
// decisions; collaborations that concern no account are not in it. Here and below it
// fields stand in the order of their names: see bundleSignatures.
type AccountData struct {
	Actions      Set[ActionName]                   `json:"actions"` // that the owner's custom policies name
	Environments map[EnvironmentID]EnvironmentData `json:"environments"`
	Groups       map[GroupID]GroupData             `json:"groups"`
	Members      map[AccountID]MemberData          `json:"members"`
	Policies     map[PolicyID]PolicyData           `json:"policies"` // custom ones
	Roles        map[RoleID]RoleData               `json:"roles"`
}

type (
	// GroupData is one group: the groups above it, nearest first.
	GroupData struct {
		Ancestors []GroupID `json:"ancestors"`
	}

	// EnvironmentData is one environment: the groups in which it stands, sorted.
	EnvironmentData struct {
		Groups []GroupID `json:"groups"`
	}

	// PolicyData is one policy, custom or of the catalogue.
	PolicyData struct {
		Actions   Set[ActionName]   `json:"actions"`
		Resources Set[ResourceType] `json:"resources"`
	}

	// RoleData is one role. Policies are sorted.
	RoleData struct {
		Name              string     `json:"name"`
		Policies          []PolicyID `json:"policies"`
		ReceiveLoadAlerts bool       `json:"receive_load_alerts"`
	}

	// MemberData is one collaboration, by the account that it concerns.
	MemberData struct {
		Grants map[ResourceType]map[string]GrantData `json:"grants"`
		ID     CollaborationID                       `json:"id"`
		Status Status                                `json:"status"`
	}

	// GrantData is one grant. Roles are sorted. The end, if there is one, stands
	// twice: as the answer shows it, and as a number to compare with the clock.
	GrantData struct {
		ExpiresAt   string         `json:"expires_at,omitzero"`
		ExpiresAtNS jsontext.Value `json:"expires_at_ns,omitzero"`
		Roles       []RoleID       `json:"roles"`
	}

	// Set is a JSON object of which every value is true.
	Set[K comparable] map[K]bool
)

// NewGrantData makes a grant of sorted roles that ends at the given time, or
// never if that is nil.
func NewGrantData(roles []RoleID, expires *time.Time) GrantData {
	g := GrantData{Roles: roles}
	if expires != nil {
		g.ExpiresAt, g.ExpiresAtNS = FormatTime(*expires), ExpiryNS(*expires)
	}
	return g
}

// ExpiryNS is t in nanoseconds of Unix time as a JSON number. It may exceed 64
// bits: 2262 is not the last year in which a grant may end.
func ExpiryNS(t time.Time) jsontext.Value {
	if y := t.Year(); y >= MinExpiryYear && y < 2262 {
		return strconv.AppendInt(nil, t.UnixNano(), 10)
	}
	ns := new(big.Int).Mul(big.NewInt(t.Unix()), big.NewInt(int64(time.Second)))
	return ns.Add(ns, big.NewInt(int64(t.Nanosecond()))).Append(nil, 10)
}

// NewPolicyData is a policy with these kinds of resource and actions.
func NewPolicyData(resources []ResourceType, actions []ActionName) PolicyData {
	return PolicyData{Actions: NewSet(actions), Resources: NewSet(resources)}
}

// NewSet is the set of these members.
func NewSet[K comparable](members []K) Set[K] {
	s := make(Set[K], len(members))
	for _, m := range members {
		s[m] = true
	}
	return s
}

// CatalogueData is data.usher.catalogue.
type CatalogueData struct {
	Policies map[PolicyID]PolicyData `json:"policies"`
	Actions  Set[ActionName]         `json:"actions"`
}

// Data is the part of c that the Rego reads.
func (c Catalogue) Data() CatalogueData {
	d := CatalogueData{Policies: make(map[PolicyID]PolicyData, len(c.Policies)), Actions: make(Set[ActionName])}
	for _, p := range c.Policies {
		d.Policies[p.ID] = NewPolicyData(p.Resources, p.Actions)
		for _, a := range p.Actions {
			d.Actions[a] = true
		}
	}
	return d
}

// PlatformData is a whole platform at one revision, as the bundle compiler reads
// it. It must not change while it is read; every sequence must be in the same
// order each time for bundles to be the same byte for byte.
type PlatformData interface {
	// Revision is the revision at which all the rest is.
	Revision() Revision
	// PlatformID names the platform.
	PlatformID() string
	// Policy is the policy in force.
	Policy() *PolicyInForce
	// Subjects are all accounts.
	Subjects() iter.Seq[AccountID]
	// Accounts are the accounts with what they share. An account that shares
	// nothing may be left out.
	Accounts() iter.Seq2[AccountID, *AccountData]
}
