package rest

import (
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const (
	idPattern     = `^[A-Za-z0-9][A-Za-z0-9._:@-]*$`
	colorPattern  = `^#[0-9A-Fa-f]{6}$`
	actionPattern = `^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`
)

// Parameters come in as text and are read here and not by huma, so that what is
// wrong with them has one kind of answer. Their schemas say what they are.
type (
	wholeNumber string
	boolean     string
	timeText    string
	timestamp   string // the end of a grant; null is for ever
	roleRef     string // a role's id or name
)

// Schema is that of a whole number.
func (wholeNumber) Schema(huma.Registry) *huma.Schema {
	least := 1.0
	return &huma.Schema{Type: huma.TypeInteger, Minimum: &least}
}

// Schema is that of a boolean.
func (boolean) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: huma.TypeBoolean} }

// Schema is that of a time.
func (timeText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time"}
}

// Schema is that of a time or null.
func (timestamp) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Nullable: true, Examples: []any{"2030-01-31T12:00:00Z"}}
}

// Schema is that of an id or a name.
func (roleRef) Schema(huma.Registry) *huma.Schema {
	most := policies.MaxNameLength
	return &huma.Schema{Type: huma.TypeString, MaxLength: &most, Examples: []any{"viewer"}}
}

// Schema is that of any value.
func (anyJSON) Schema(huma.Registry) *huma.Schema { return &huma.Schema{} }

// idSchema and its like stand in for the domain's types in the document.
type (
	idSchema       string
	actionSchema   string
	typeSchema     string
	statusSchema   string
	levelSchema    string
	reasonSchema   string
	eventSchema    string
	kindSchema     string
	revisionSchema uint64
)

// Schema is that of an id.
func (idSchema) Schema(huma.Registry) *huma.Schema {
	most := policies.MaxIDLength
	return &huma.Schema{Type: huma.TypeString, MaxLength: &most, Pattern: idPattern, Examples: []any{"my-app"}}
}

// Schema is that of the name of an action.
func (actionSchema) Schema(huma.Registry) *huma.Schema {
	most := policies.MaxActionLength
	return &huma.Schema{Type: huma.TypeString, MaxLength: &most, Pattern: actionPattern, Examples: []any{"environment.control.StartEnv"}}
}

// Schema is that of a type of resource.
func (typeSchema) Schema(huma.Registry) *huma.Schema { return enum(policies.ResourceTypes) }

// Schema is that of a status.
func (statusSchema) Schema(huma.Registry) *huma.Schema { return enum(policies.Statuses) }

// Schema is that of an access level.
func (levelSchema) Schema(huma.Registry) *huma.Schema {
	return enum([]policies.Level{policies.LevelDirect, policies.LevelSharedEnvGroups, policies.LevelBase})
}

// Schema is that of a reason.
func (reasonSchema) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: huma.TypeString} }

// Schema is that of an event.
func (eventSchema) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: huma.TypeString} }

// Schema is that of an outcome.
func (outcome) Schema(huma.Registry) *huma.Schema { return enum(store.Outcomes) }

// Schema is that of a kind of object.
func (kindSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Examples: []any{string(policies.KindGrant)}}
}

// Schema is that of a revision.
func (revisionSchema) Schema(huma.Registry) *huma.Schema {
	least, most := 0.0, float64(policies.MaxRevision)
	return &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &least, Maximum: &most}
}

// aliases gives the domain's types their schemas.
func aliases(r huma.Registry) {
	for _, t := range []reflect.Type{
		reflect.TypeFor[policies.AccountID](), reflect.TypeFor[policies.EnvironmentID](), reflect.TypeFor[policies.GroupID](),
		reflect.TypeFor[policies.PolicyID](), reflect.TypeFor[policies.RoleID](), reflect.TypeFor[policies.CollaborationID](),
	} {
		r.RegisterTypeAlias(t, reflect.TypeFor[idSchema]())
	}
	r.RegisterTypeAlias(reflect.TypeFor[policies.ActionName](), reflect.TypeFor[actionSchema]())
	r.RegisterTypeAlias(reflect.TypeFor[policies.ResourceType](), reflect.TypeFor[typeSchema]())
	r.RegisterTypeAlias(reflect.TypeFor[policies.Status](), reflect.TypeFor[statusSchema]())
	r.RegisterTypeAlias(reflect.TypeFor[policies.Level](), reflect.TypeFor[levelSchema]())
	r.RegisterTypeAlias(reflect.TypeFor[policies.Reason](), reflect.TypeFor[reasonSchema]())
	r.RegisterTypeAlias(reflect.TypeFor[policies.Event](), reflect.TypeFor[eventSchema]())
	r.RegisterTypeAlias(reflect.TypeFor[policies.Kind](), reflect.TypeFor[kindSchema]())
	r.RegisterTypeAlias(reflect.TypeFor[policies.Revision](), reflect.TypeFor[revisionSchema]())
}

// accountDocument and its parts describe the account document, which package
// policies reads and writes.
type (
	accountDocument struct {
		Account      documentAccount       `json:"account"`
		Groups       []documentGroup       `json:"groups,omitzero"`
		Environments []documentEnvironment `json:"environments,omitzero"`
		Policies     []documentPolicy      `json:"policies,omitzero"`
		Roles        []documentRole        `json:"roles,omitzero"`
		Members      []documentMember      `json:"members,omitzero"`
	}
	documentAccount struct {
		ID          policies.AccountID `json:"id"`
		Email       string             `json:"email" format:"email" maxLength:"254"`
		DisplayName string             `json:"display_name,omitzero" maxLength:"200"`
	}
	documentGroup struct {
		ID     policies.GroupID `json:"id"`
		Name   string           `json:"name" minLength:"1" maxLength:"200"`
		Parent policies.GroupID `json:"parent,omitzero" nullable:"true"`
		Color  string           `json:"color,omitzero" pattern:"^#[0-9A-Fa-f]{6}$" default:"#808080"`
	}
	documentEnvironment struct {
		ID     policies.EnvironmentID `json:"id"`
		Name   string                 `json:"name" minLength:"1" maxLength:"200"`
		Groups []policies.GroupID     `json:"groups,omitzero"`
	}
	documentPolicy struct {
		ID          policies.PolicyID       `json:"id"`
		Name        string                  `json:"name" minLength:"1" maxLength:"200"`
		Description string                  `json:"description,omitzero" maxLength:"200"`
		Resources   []policies.ResourceType `json:"resources"`
		Actions     []policies.ActionName   `json:"actions"`
	}
	documentRole struct {
		ID                policies.RoleID     `json:"id"`
		Name              string              `json:"name" minLength:"1" maxLength:"200"`
		Description       string              `json:"description,omitzero" maxLength:"200"`
		Policies          []policies.PolicyID `json:"policies"`
		ReceiveLoadAlerts bool                `json:"receive_load_alerts,omitzero"`
	}
	documentMember struct {
		Account     documentMemberAccount `json:"account"`
		DisplayName string                `json:"display_name,omitzero" maxLength:"200"`
		Status      documentStatus        `json:"status,omitzero" default:"active"`
		Grants      []documentGrant       `json:"grants,omitzero"`
	}
	documentMemberAccount struct {
		ID          policies.AccountID `json:"id,omitzero" nullable:"true" doc:"Null while no account has the address."`
		Email       string             `json:"email" format:"email" maxLength:"254"`
		DisplayName string             `json:"display_name,omitzero" maxLength:"200"`
	}
	documentStatus string
	documentGrant  struct {
		Resource  policies.Resource `json:"resource"`
		Roles     []string          `json:"roles" minItems:"1" doc:"Ids or names of roles of the document."`
		ExpiresAt timestamp         `json:"expires_at,omitzero" doc:"May lie in the past."`
	}
)

// Schema is that of the statuses that stand in documents.
func (documentStatus) Schema(huma.Registry) *huma.Schema {
	return enum(slices.DeleteFunc(slices.Clone(policies.Statuses), func(s policies.Status) bool { return s == policies.StatusRemoved }))
}

// Schema is that of an account document.
func (documentBody) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[accountDocument](), true, "")
}

// Schema is that of what a receipt is waited for.
func (waitFor) Schema(huma.Registry) *huma.Schema { return enum([]waitFor{waitApplied}) }
