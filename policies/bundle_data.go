package policies

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/flate"
)

func isDeflateFault(err error) bool {
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	_, internal := errors.AsType[flate.InternalError](err)
	return corrupt || internal
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// platformDecoder reads data.json from a stream, one account at a time, in
// whatever order its members stand.
type platformDecoder struct {
	dec       *jsontext.Decoder
	seen      map[string]bool
	revision  Revision
	catalogue jsontext.Value
	subjects  Set[AccountID]
	owners    map[ResourceType]map[string]AccountID
	accounts  map[AccountID]jsontext.Value
	// found is what the accounts themselves say of who owns what; roles that name
	// a policy which is not the owner's own wait for the catalogue.
	found  map[ResourceType]map[string]AccountID
	system map[PolicyID]AccountID
	custom map[PolicyID]AccountID
}

// fault is a fault at the place in data.json where the decoder stands.
func (p *platformDecoder) fault(reason string) error {
	return &MalformedError{Where: bundleData + shortPointer(p.dec.StackPointer()), Reason: reason}
}

func (p *platformDecoder) jsonFault(err error) error {
	if already, ok := errors.AsType[*MalformedError](err); ok {
		return already
	}
	return at(bundleData, Malformed(nil, err))
}

func (p *platformDecoder) decode(r io.Reader) error {
	p.dec = jsontext.NewDecoder(r)
	p.seen = make(map[string]bool)
	p.accounts = make(map[AccountID]jsontext.Value)
	p.found = map[ResourceType]map[string]AccountID{TypeEnvironment: {}, TypeGroup: {}}
	p.system, p.custom = make(map[PolicyID]AccountID), make(map[PolicyID]AccountID)
	err := p.object(func(name string) error {
		if name != bundleRoot {
			return p.fault("is outside the bundle's root")
		}
		return p.object(p.member)
	})
	if err != nil {
		return p.jsonFault(err)
	}
	if _, err := p.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return p.jsonFault(firstError(err, p.fault("has something after its end")))
	}
	for _, name := range []string{"revision", "catalogue", "subjects", "owners", "accounts"} {
		if !p.seen[name] {
			return &MalformedError{Where: bundleData + "/" + bundleRoot + "/" + name, Reason: "is missing"}
		}
	}
	return nil
}

// object reads an object; each is called with the decoder before the value of
// the named member, and reads it.
func (p *platformDecoder) object(each func(name string) error) error {
	begin, err := p.dec.ReadToken()
	if err != nil {
		return err
	}
	if begin.Kind() != '{' {
		return p.fault("must be an object")
	}
	for p.dec.PeekKind() == '"' {
		name, err := p.dec.ReadToken()
		if err != nil {
			return err
		}
		if err := each(name.String()); err != nil {
			return err
		}
	}
	_, err = p.dec.ReadToken()
	return err
}

func (p *platformDecoder) member(name string) error {
	p.seen[name] = true
	switch name {
	case "revision":
		token, err := p.dec.ReadToken()
		if err != nil {
			return err
		}
		if token.Kind() != '0' {
			return p.fault("must be a number")
		}
		if p.revision, err = ParseRevision(token.String()); err != nil {
			return p.fault(err.Error())
		}
		return nil
	case "catalogue":
		value, err := p.dec.ReadValue()
		p.catalogue = value.Clone()
		return err
	case "subjects":
		return json.UnmarshalDecode(p.dec, &p.subjects)
	case "owners":
		return json.UnmarshalDecode(p.dec, &p.owners)
	case "accounts":
		return p.object(p.account)
	}
	return p.fault("is not a known field")
}

func (p *platformDecoder) account(name string) error {
	owner := AccountID(name)
	value, err := p.dec.ReadValue()
	if err != nil {
		return err
	}
	data := new(AccountData)
	if err := DecodeStrict(value, data); err != nil {
		where := bundleData + shortPointer(p.dec.StackPointer())
		return at(where, err)
	}
	if reason := data.check(owner); reason != "" {
		return p.fault(reason)
	}
	for id := range data.Environments {
		if err := p.claim(TypeEnvironment, string(id), owner); err != nil {
			return err
		}
	}
	for id := range data.Groups {
		if err := p.claim(TypeGroup, string(id), owner); err != nil {
			return err
		}
	}
	for id := range data.Policies {
		p.custom[id] = owner
	}
	for _, role := range data.Roles {
		for _, id := range role.Policies {
			if _, own := data.Policies[id]; !own {
				p.system[id] = owner
			}
		}
	}
	p.accounts[owner] = value.Clone()
	return nil
}

// claim notes that an account has the resource, which no other may have.
func (p *platformDecoder) claim(t ResourceType, id string, owner AccountID) error {
	if other, ok := p.found[t][id]; ok {
		return p.fault(fmt.Sprintf("has the %s %q, which account %q has too", t, id, other))
	}
	p.found[t][id] = owner
	return nil
}

// check holds the parts of the data against one another and the catalogue.
func (p *platformDecoder) check(c Catalogue) error {
	fail := func(where, reason string) error {
		return &MalformedError{Where: bundleData + "/" + bundleRoot + where, Reason: reason}
	}
	if !canonicalEqual(p.catalogue, c.Data()) {
		return fail("/catalogue", "is not that of catalogue.json")
	}
	categories := make(map[string]AccountID, len(p.subjects))
	for id, known := range p.subjects {
		if !known || !ValidID(id) {
			return fail("/subjects", fmt.Sprintf("has %q, which is no id or not true", Shorten(string(id))))
		}
		categories[string(id)] = id
	}
	for owner := range p.accounts {
		if !p.subjects[owner] {
			return fail("/accounts", fmt.Sprintf("has %q, which is not among the subjects", owner))
		}
	}
	for _, t := range ResourceTypes {
		want := p.found[t]
		if t.IsCategory() {
			want = categories
		}
		if !maps.Equal(want, p.owners[t]) {
			return fail("/owners/"+string(t), "does not agree with the accounts")
		}
	}
	if len(p.owners) != len(ResourceTypes) {
		return fail("/owners", "has types that are not known")
	}
	index := c.Index()
	for id, owner := range p.custom {
		if index.IsSystem(id) {
			return fail("/accounts/"+string(owner), fmt.Sprintf("has a policy with the reserved id %q", id))
		}
	}
	for id, owner := range p.system {
		if !index.IsSystem(id) {
			return fail("/accounts/"+string(owner), fmt.Sprintf("has a role of the policy %q, which is not known", id))
		}
	}
	return nil
}

// check says what is wrong with d, or "": ids, references and what stands in it
// twice. Whether other policies than its own exist it cannot tell.
func (d *AccountData) check(owner AccountID) string {
	if !ValidID(owner) {
		return "is not an id"
	}
	for id, g := range d.Groups {
		if reason := d.checkGroup(id, g); reason != "" {
			return fmt.Sprintf("has a group %q that %s", Shorten(string(id)), reason)
		}
	}
	for id, e := range d.Environments {
		if !ValidID(id) || slices.ContainsFunc(e.Groups, func(g GroupID) bool { _, ok := d.Groups[g]; return !ok }) {
			return fmt.Sprintf("has an environment %q that has no valid id or stands in an unknown group", Shorten(string(id)))
		}
	}
	actions := make(Set[ActionName])
	for id, p := range d.Policies {
		if !ValidID(id) || !p.valid() {
			return fmt.Sprintf("has an invalid policy %q", Shorten(string(id)))
		}
		maps.Copy(actions, p.Actions)
	}
	if !maps.Equal(actions, d.Actions) {
		return "has other actions than its policies name"
	}
	for id, r := range d.Roles {
		if !ValidID(id) || CheckName(r.Name, false) != "" {
			return fmt.Sprintf("has an invalid role %q", Shorten(string(id)))
		}
	}
	ids := make(map[CollaborationID]bool, len(d.Members))
	for account, m := range d.Members {
		if reason := d.checkMember(owner, account, m); reason != "" {
			return fmt.Sprintf("has a member %q that %s", Shorten(string(account)), reason)
		}
		if ids[m.ID] {
			return fmt.Sprintf("has two collaborations %q", m.ID)
		}
		ids[m.ID] = true
	}
	return ""
}

func (d *AccountData) checkGroup(id GroupID, g GroupData) string {
	if !ValidID(id) || len(g.Ancestors) >= MaxGroupDepth {
		return "has no valid id or is nested too deep"
	}
	if len(g.Ancestors) == 0 {
		return ""
	}
	// That each group's ancestors are its parent and the parent's own excludes
	// cycles: they would be endless.
	parent, ok := d.Groups[g.Ancestors[0]]
	if !ok || !slices.Equal(parent.Ancestors, g.Ancestors[1:]) {
		return "has other ancestors than its parent"
	}
	return ""
}

func (p PolicyData) valid() bool {
	for t, in := range p.Resources {
		if !in || !t.Valid() {
			return false
		}
	}
	for a, in := range p.Actions {
		if !in || !ValidActionName(a) {
			return false
		}
	}
	return true
}

func (d *AccountData) checkMember(owner, account AccountID, m MemberData) string {
	if !ValidID(account) || !ValidID(m.ID) || account == owner {
		return "has no valid id"
	}
	if !slices.Contains(Statuses, m.Status) {
		return fmt.Sprintf("has an unknown status %q", Shorten(string(m.Status)))
	}
	for t, grants := range m.Grants {
		for id, g := range grants {
			if !d.owns(owner, Resource{t, id}) {
				return fmt.Sprintf("has a grant on %q, which is not the owner's", Shorten(Resource{t, id}.String()))
			}
			if reason := d.checkGrant(g); reason != "" {
				return fmt.Sprintf("has a grant on %s that %s", Resource{t, id}, reason)
			}
		}
	}
	return ""
}

func (d *AccountData) owns(owner AccountID, r Resource) (ok bool) {
	switch r.Type {
	case TypeEnvironment:
		_, ok = d.Environments[EnvironmentID(r.ID)]
	case TypeGroup:
		_, ok = d.Groups[GroupID(r.ID)]
	case TypeEnvironments, TypeGroups, TypeAccount:
		ok = r.ID == string(owner)
	}
	return ok
}

func (d *AccountData) checkGrant(g GrantData) string {
	if len(g.Roles) == 0 {
		return "has no roles"
	}
	for _, id := range g.Roles {
		if _, ok := d.Roles[id]; !ok {
			return fmt.Sprintf("gives an unknown role %q", Shorten(string(id)))
		}
	}
	if g.ExpiresAt == "" && len(g.ExpiresAtNS) == 0 {
		return ""
	}
	t, err := ParseExpiry(g.ExpiresAt)
	if err != nil || FormatTime(t) != g.ExpiresAt || string(ExpiryNS(t)) != string(g.ExpiresAtNS) {
		return "has an end that is no time, or two different ones"
	}
	return ""
}
