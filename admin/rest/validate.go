package rest

import "github.com/usher-authz/usher/policies"

// anyID stands where a body has no id: the path's was looked at already, and the
// store makes those that are left out.
const anyID = "x"

const badID = "must be 1 to 128 of A-Z a-z 0-9 . _ : @ - and begin with a letter or a digit"

func (b *accountInput) validate() []policies.FieldError { return b.account(anyID).Validate() }

func (b *groupInput) validate() []policies.FieldError {
	// No id can be the parent's: that a group stands below itself is the store's to
	// find, which knows those between.
	group := b.group(anyID)
	if group.Parent != nil && *group.Parent == anyID {
		group.ID += anyID
	}
	return group.Validate()
}

func (b *environmentInput) validate() []policies.FieldError {
	return policies.Environment{ID: anyID, Name: value(b.Name), Groups: b.Groups}.Validate()
}

func (b *transferInput) validate() []policies.FieldError { return checkID("to", b.To) }

func (b *policyInput) validate() []policies.FieldError {
	p := b.policy()
	if b.ID == nil {
		p.ID = anyID
	}
	return p.Validate()
}

func (b *policyPatch) validate() []policies.FieldError {
	return policies.Policy{
		ID: anyID, Name: or(b.Name, anyID), Description: value(b.Description), Resources: value(b.Resources), Actions: value(b.Actions),
	}.Validate()
}

func (b *roleInput) validate() []policies.FieldError {
	r := b.role()
	if b.ID == nil {
		r.ID = anyID
	}
	return r.Validate()
}

func (b *rolePatch) validate() []policies.FieldError {
	return policies.Role{ID: anyID, Name: or(b.Name, anyID), Description: value(b.Description), Policies: value(b.Policies)}.Validate()
}

func (b *roleCopy) validate() []policies.FieldError { return checkName("name", b.Name, false) }

func (b *invitationInput) validate() []policies.FieldError {
	all := checkAddress(b.Email, b.DisplayName)
	return append(all, checkGrants(b.Grants)...)
}

func (b *memberPatch) validate() []policies.FieldError {
	return checkName("display_name", b.DisplayName, true)
}

func (b *memberCopy) validate() []policies.FieldError { return checkAddress(b.Email, b.DisplayName) }

func checkAddress(email, name *string) []policies.FieldError {
	return policies.Account{ID: anyID, Email: value(email), DisplayName: value(name)}.Validate()
}

func checkName(field string, name *string, allowEmpty bool) []policies.FieldError {
	if name == nil {
		return nil
	}
	if reason := policies.CheckName(*name, allowEmpty); reason != "" {
		return []policies.FieldError{{Field: field, Reason: reason}}
	}
	return nil
}

func checkID[T ~string](field string, id *T) []policies.FieldError {
	if id == nil || policies.ValidID(*id) {
		return nil
	}
	return []policies.FieldError{{Field: field, Reason: badID}}
}

// or is *p, or absent.
func or[T any](p *T, absent T) T {
	if p == nil {
		return absent
	}
	return *p
}
