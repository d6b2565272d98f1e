package policies

import (
	"fmt"
	"strconv"
	"time"
)

// Ids are 1 to [MaxIDLength] of A-Z a-z 0-9 . _ : @ -, begin with a letter or a
// digit, and are compared byte by byte. Each kind of id has a type of its own,
// so that one cannot stand in for another; see [ValidID].
type (
	// AccountID names an account. Unique on the platform.
	AccountID string
	// EnvironmentID names an environment. Unique on the platform.
	EnvironmentID string
	// GroupID names an environment group. Unique on the platform.
	GroupID string
	// PolicyID names a policy: a system policy's id is reserved on the whole
	// platform, a custom one's is unique within its owner.
	PolicyID string
	// RoleID names a role. Unique within its owner.
	RoleID string
	// CollaborationID names a collaboration (the "member id" of the API). Unique
	// on the platform, made by the server.
	CollaborationID string
	// ActionName is one API method of the platform: dotted words, up to
	// [MaxActionLength] characters, such as environment.control.StartEnv.
	ActionName string
)

// ResourceType is a kind of thing that a grant or a check points at.
type ResourceType string

// The five types of resource (domain.md, Words). The id of the last three is the
// id of the owner's account.
const (
	TypeEnvironment  ResourceType = "environment"
	TypeGroup        ResourceType = "group"
	TypeEnvironments ResourceType = "environments" // the category "all environments of the owner"
	TypeGroups       ResourceType = "groups"       // the category "all groups of the owner"
	TypeAccount      ResourceType = "account"      // the owner's account itself
)

// ResourceTypes lists every type, in the order of domain.md.
var ResourceTypes = []ResourceType{TypeEnvironment, TypeGroup, TypeEnvironments, TypeGroups, TypeAccount}

// Valid tells whether t is one of [ResourceTypes].
func (t ResourceType) Valid() bool {
	switch t {
	case TypeEnvironment, TypeGroup, TypeEnvironments, TypeGroups, TypeAccount:
		return true
	}
	return false
}

// IsCategory tells whether resources of type t have the owner's id as theirs.
func (t ResourceType) IsCategory() bool {
	return t == TypeEnvironments || t == TypeGroups || t == TypeAccount
}

// Resource is what a grant or a check points at.
type Resource struct {
	Type ResourceType `json:"type"`
	ID   string       `json:"id"`
}

// String is TYPE:ID, as commands take it.
func (r Resource) String() string { return string(r.Type) + ":" + r.ID }

// Status is where a collaboration stands in its life (domain.md, Life of a
// collaboration).
type Status string

// The statuses of a collaboration.
const (
	StatusPending   Status = "pending"
	StatusActive    Status = "active"
	StatusSuspended Status = "suspended"
	StatusLeft      Status = "left"
	StatusRejected  Status = "rejected"
	StatusExpired   Status = "expired"
	StatusRemoved   Status = "removed"
)

// Statuses lists every status.
var Statuses = []Status{
	StatusPending, StatusActive, StatusSuspended, StatusLeft, StatusRejected, StatusExpired, StatusRemoved,
}

// Level is the access level on which roles were found (domain.md, The check, 4).
type Level string

// The access levels, highest first.
const (
	LevelDirect          Level = "direct"
	LevelSharedEnvGroups Level = "shared_env_groups"
	LevelBase            Level = "base"
)

// Reason says why a decision is what it is (domain.md, The check).
type Reason string

// The reasons. ReasonOwner and ReasonGranted allow, every other denies.
const (
	ReasonOwner                  Reason = "owner"
	ReasonGranted                Reason = "granted"
	ReasonUnknownSubject         Reason = "unknown_subject"
	ReasonUnknownResource        Reason = "unknown_resource"
	ReasonUnknownAction          Reason = "unknown_action"
	ReasonNoCollaboration        Reason = "no_collaboration"
	ReasonCollaborationPending   Reason = "collaboration_pending"
	ReasonCollaborationSuspended Reason = "collaboration_suspended"
	ReasonCollaborationLeft      Reason = "collaboration_left"
	ReasonCollaborationRejected  Reason = "collaboration_rejected"
	ReasonCollaborationExpired   Reason = "collaboration_expired"
	ReasonCollaborationRemoved   Reason = "collaboration_removed"
	ReasonNotShared              Reason = "not_shared"
	ReasonActionNotGranted       Reason = "action_not_granted"
	ReasonGuardrail              Reason = "guardrail"
	ReasonInvalidRequest         Reason = "invalid_request"
	ReasonRevisionNotReached     Reason = "revision_not_reached"
)

// Revision orders every change on the platform: epoch × 2^40 + count, both from
// zero, so that it is a whole number of at most 53 bits, safe in JSON
// (architecture.md, Epochs). Within an epoch counts have no gaps.
type Revision uint64

const epochShift = 40

// MaxRevision is the greatest revision that JSON numbers carry exactly.
const MaxRevision Revision = 1<<53 - 1

// NewRevision is the revision with this epoch and count.
func NewRevision(epoch, count uint64) Revision { return Revision(epoch<<epochShift | count) }

// Epoch is the platform's timeline that r belongs to.
func (r Revision) Epoch() uint64 { return uint64(r) >> epochShift }

// Count is r's place in its epoch.
func (r Revision) Count() uint64 { return uint64(r) & (1<<epochShift - 1) }

// String is the number in decimal, as headers carry it.
func (r Revision) String() string { return strconv.FormatUint(uint64(r), 10) }

// ParseRevision reads a revision from its decimal form. The error says what is
// wrong with s.
func ParseRevision(s string) (Revision, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > uint64(MaxRevision) {
		return 0, fmt.Errorf("a revision is a whole number from 0 to %d", MaxRevision)
	}
	return Revision(n), nil
}

// Scope is what a service token may be used for (api.md, Who calls).
type Scope string

// The scopes of service tokens.
const (
	ScopeResources     Scope = "resources"
	ScopeCollaboration Scope = "collaboration"
	ScopeChecks        Scope = "checks"
	ScopeBundles       Scope = "bundles"
	ScopeDecisions     Scope = "decisions"
	ScopeAudit         Scope = "audit"
	ScopeActAs         Scope = "act-as"
)

// Scopes lists every scope.
var Scopes = []Scope{
	ScopeResources, ScopeCollaboration, ScopeChecks, ScopeBundles, ScopeDecisions, ScopeAudit, ScopeActAs,
}

// Account is a customer of the platform.
type Account struct {
	ID          AccountID `json:"id"`
	Email       string    `json:"email"`
	DisplayName string    `json:"display_name"`
}

// Group is an environment group. Parent is nil at the root.
type Group struct {
	ID     GroupID  `json:"id"`
	Name   string   `json:"name"`
	Parent *GroupID `json:"parent"`
	Color  string   `json:"color"` // #rrggbb
}

// Environment is one environment of its owner. Groups are sorted and distinct.
type Environment struct {
	ID     EnvironmentID `json:"id"`
	Name   string        `json:"name"`
	Groups []GroupID     `json:"groups"`
}

// Policy is a custom policy of its owner. Resources and Actions are distinct.
type Policy struct {
	ID          PolicyID       `json:"id"`
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Resources   []ResourceType `json:"resources"`
	Actions     []ActionName   `json:"actions"`
}

// Role is a set of policies, system or custom, of one owner. Policies are sorted
// and distinct.
type Role struct {
	ID                RoleID     `json:"id"`
	Name              string     `json:"name"`
	Description       string     `json:"description"`
	Policies          []PolicyID `json:"policies"`
	ReceiveLoadAlerts bool       `json:"receive_load_alerts"`
}

// Grant gives roles on one resource. Roles are ids, sorted and distinct, never
// empty; a grant counts while now < ExpiresAt (nil: for ever).
type Grant struct {
	Resource  Resource   `json:"resource"`
	Roles     []RoleID   `json:"roles"`
	ExpiresAt *time.Time `json:"expires_at"`
}

// Member is a collaboration as its owner sees it (api.md, members). Account is
// nil while no account has the address.
type Member struct {
	ID          CollaborationID `json:"id"`
	Email       string          `json:"email"`
	Account     *AccountID      `json:"account"`
	DisplayName string          `json:"display_name"`
	Status      Status          `json:"status"`
	LastChanged time.Time       `json:"last_changed"`
	Grants      []Grant         `json:"grants"`
}
