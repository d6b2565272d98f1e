package policies

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DecodeOption changes how documents are decoded.
type DecodeOption func(*decodeOptions)

type decodeOptions struct {
	catalogue *CatalogueIndex
	line      int // on which the document begins in something larger
}

// WithCatalogue checks documents against a catalogue too, as [ValidateDocument]
// does, so that all errors come at once.
func WithCatalogue(x CatalogueIndex) DecodeOption {
	return func(o *decodeOptions) { o.catalogue = &x }
}

func beginningOn(line int) DecodeOption { return func(o *decodeOptions) { o.line = line } }

// DecodeDocument reads one account document strictly (api.md, Account document):
// unknown and duplicate names, wrong types, invalid UTF-8 and anything after the
// document are a [*MalformedError]; a document over [MaxDocumentBytes] is a
// [*TooLargeError]; every invalid field at once is an [*InvalidError]. Defaults
// are filled in, roles are resolved from names to ids, and the document is
// normalized. Null stands for absent. Without [WithCatalogue] the ids of
// policies are not held against the catalogue; see [ValidateDocument].
func DecodeDocument(data []byte, opts ...DecodeOption) (Document, error) {
	o := decodeOptions{line: 1}
	for _, opt := range opts {
		opt(&o)
	}
	if len(data) > MaxDocumentBytes {
		return Document{}, &TooLargeError{What: "the account document", Limit: MaxDocumentBytes}
	}
	var w wireDocument
	if err := decodeStrictFrom(o.line, data, &w); err != nil {
		return Document{}, err
	}
	var errs fieldErrors
	d := w.document(&errs)
	checkDocument(&d, o.catalogue, &errs)
	if err := errs.err(); err != nil {
		return Document{}, err
	}
	return d.Normalize(), nil
}

// ValidateDocument reports in an [*InvalidError] all that is wrong with d, whose
// grants may name roles by id or name, on a platform with this catalogue.
func ValidateDocument(d Document, x CatalogueIndex) error {
	var errs fieldErrors
	d.Members = slicesCloneMembers(d.Members)
	checkDocument(&d, &x, &errs)
	return errs.err()
}

// EncodeDocument is d as JSON, normalized, indented by two blanks and with a new
// line at the end: what export gives. DecodeDocument(EncodeDocument(d)) is
// d.Normalize().
func EncodeDocument(d Document) ([]byte, error) {
	data, err := json.Marshal(d.Normalize(), jsontext.WithIndent("  "))
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// MarshalDocument is d as JSON on one line, normalized, as a line of an
// application/x-ndjson import is.
func MarshalDocument(d Document) ([]byte, error) { return json.Marshal(d.Normalize()) }

// slicesCloneMembers copies members and their grants as deep as resolving roles
// writes.
func slicesCloneMembers(members []DocumentMember) []DocumentMember {
	out := make([]DocumentMember, len(members))
	for i, m := range members {
		grants := make([]Grant, len(m.Grants))
		for j, g := range m.Grants {
			g.Roles = append([]RoleID(nil), g.Roles...)
			grants[j] = g
		}
		m.Grants = grants
		out[i] = m
	}
	return out
}

// The shape of a document on the wire: what is required is a pointer, so that
// its absence shows.
type (
	wireDocument struct {
		Account      *wireAccount      `json:"account"`
		Groups       []wireGroup       `json:"groups"`
		Environments []wireEnvironment `json:"environments"`
		Policies     []wirePolicy      `json:"policies"`
		Roles        []wireRole        `json:"roles"`
		Members      []wireMember      `json:"members"`
	}
	wireAccount struct {
		ID          *AccountID `json:"id"`
		Email       *string    `json:"email"`
		DisplayName string     `json:"display_name"`
	}
	wireGroup struct {
		ID     *GroupID `json:"id"`
		Name   *string  `json:"name"`
		Parent *GroupID `json:"parent"`
		Color  *string  `json:"color"`
	}
	wireEnvironment struct {
		ID     *EnvironmentID `json:"id"`
		Name   *string        `json:"name"`
		Groups []GroupID      `json:"groups"`
	}
	wirePolicy struct {
		ID          *PolicyID       `json:"id"`
		Name        *string         `json:"name"`
		Description string          `json:"description"`
		Resources   *[]ResourceType `json:"resources"`
		Actions     *[]ActionName   `json:"actions"`
	}
	wireRole struct {
		ID                *RoleID     `json:"id"`
		Name              *string     `json:"name"`
		Description       string      `json:"description"`
		Policies          *[]PolicyID `json:"policies"`
		ReceiveLoadAlerts bool        `json:"receive_load_alerts"`
	}
	wireMember struct {
		Account     *wireMemberAccount `json:"account"`
		DisplayName string             `json:"display_name"`
		Status      *Status            `json:"status"`
		Grants      []wireGrant        `json:"grants"`
	}
	wireMemberAccount struct {
		ID          presentNull[AccountID] `json:"id"`
		Email       *string                `json:"email"`
		DisplayName string                 `json:"display_name"`
	}
	wireGrant struct {
		Resource  *wireResource `json:"resource"`
		Roles     *[]RoleID     `json:"roles"` // ids or names
		ExpiresAt *string       `json:"expires_at"`
	}
	wireResource struct {
		Type *ResourceType `json:"type"`
		ID   *string       `json:"id"`
	}
)

// presentNull tells null from absent: the id of a member's account is required,
// but may be null.
type presentNull[T any] struct {
	present bool
	value   *T
}

// UnmarshalJSONFrom notes that the field is there.
func (p *presentNull[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	p.present = true
	return json.UnmarshalDecode(dec, &p.value)
}

// required is *p, or the zero value and an error if p is nil.
func required[T any](errs *fieldErrors, field string, p *T) T {
	if p == nil {
		errs.add(field, "is required")
		var zero T
		return zero
	}
	return *p
}

func orDefault[T any](p *T, value T) T {
	if p == nil {
		return value
	}
	return *p
}

func (w wireDocument) document(errs *fieldErrors) Document {
	var d Document
	if a := w.Account; a != nil {
		d.Account = Account{
			ID:          required(errs, "account.id", a.ID),
			Email:       required(errs, "account.email", a.Email),
			DisplayName: a.DisplayName,
		}
	} else {
		errs.add("account", "is required")
	}
	for i, g := range w.Groups {
		at := item("groups", i)
		d.Groups = append(d.Groups, Group{
			ID:     required(errs, at+".id", g.ID),
			Name:   required(errs, at+".name", g.Name),
			Parent: g.Parent,
			Color:  orDefault(g.Color, DefaultColor),
		})
	}
	for i, e := range w.Environments {
		at := item("environments", i)
		d.Environments = append(d.Environments, Environment{
			ID:     required(errs, at+".id", e.ID),
			Name:   required(errs, at+".name", e.Name),
			Groups: e.Groups,
		})
	}
	for i, p := range w.Policies {
		at := item("policies", i)
		d.Policies = append(d.Policies, Policy{
			ID:          required(errs, at+".id", p.ID),
			Name:        required(errs, at+".name", p.Name),
			Description: p.Description,
			Resources:   required(errs, at+".resources", p.Resources),
			Actions:     required(errs, at+".actions", p.Actions),
		})
	}
	for i, r := range w.Roles {
		at := item("roles", i)
		d.Roles = append(d.Roles, Role{
			ID:                required(errs, at+".id", r.ID),
			Name:              required(errs, at+".name", r.Name),
			Description:       r.Description,
			Policies:          required(errs, at+".policies", r.Policies),
			ReceiveLoadAlerts: r.ReceiveLoadAlerts,
		})
	}
	for i, m := range w.Members {
		d.Members = append(d.Members, m.member(errs, item("members", i)))
	}
	return d
}

func (w wireMember) member(errs *fieldErrors, at string) DocumentMember {
	m := DocumentMember{DisplayName: w.DisplayName, Status: orDefault(w.Status, StatusActive)}
	if a := w.Account; a != nil {
		if !a.ID.present {
			errs.add(at+".account.id", "is required: an id, or null while no account has the address")
		}
		m.Account = DocumentAccount{
			ID:          a.ID.value,
			Email:       required(errs, at+".account.email", a.Email),
			DisplayName: a.DisplayName,
		}
	} else {
		errs.add(at+".account", "is required")
	}
	for j, g := range w.Grants {
		at := item(at+".grants", j)
		grant := Grant{Roles: required(errs, at+".roles", g.Roles)}
		if r := g.Resource; r != nil {
			grant.Resource = Resource{required(errs, at+".resource.type", r.Type), required(errs, at+".resource.id", r.ID)}
		} else {
			errs.add(at+".resource", "is required")
		}
		if g.ExpiresAt != nil {
			t, err := ParseExpiry(*g.ExpiresAt)
			if err != nil {
				errs.add(at+".expires_at", err.Error())
			} else {
				grant.ExpiresAt = &t
			}
		}
		m.Grants = append(m.Grants, grant)
	}
	return m
}
