package store

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

// DRAFT: signatures that stay; the bodies move into a file per object.
var notYet = errors.New("not built yet")

type MigrateOptions struct{ GrantTo string }
type MigrateReport struct {
	From, To      int64
	PolicyChanged bool
	Revision      policies.Revision
}

func Migrate(ctx context.Context, url string, inForce policies.PolicyInForce, progress io.Writer, o MigrateOptions) (MigrateReport, error) {
	return MigrateReport{}, notYet
}
func (s *Store) NewEpoch(ctx context.Context, call Call) (policies.Revision, error) { return 0, notYet }

// accounts

func (s *Store) PutAccount(ctx context.Context, call Call, account policies.Account) (Result[policies.Account], error) {
	return Result[policies.Account]{}, notYet
}
func (s *Store) GetAccount(ctx context.Context, id policies.AccountID) (Item[policies.Account], error) {
	return Item[policies.Account]{}, notYet
}
func (s *Store) DeleteAccount(ctx context.Context, call Call, id policies.AccountID) (Result[struct{}], error) {
	return Result[struct{}]{}, notYet
}
func (s *Store) FindAccountByEmail(ctx context.Context, email string) (Item[policies.Account], error) {
	return Item[policies.Account]{}, notYet
}

// groups, environments

func (s *Store) PutGroup(ctx context.Context, call Call, owner policies.AccountID, group policies.Group) (Result[policies.Group], error) {
	return Result[policies.Group]{}, notYet
}
func (s *Store) GetGroup(ctx context.Context, owner policies.AccountID, id policies.GroupID) (Item[policies.Group], error) {
	return Item[policies.Group]{}, notYet
}
func (s *Store) ListGroups(ctx context.Context, owner policies.AccountID, page Page) (List[Item[policies.Group]], error) {
	return List[Item[policies.Group]]{}, notYet
}
func (s *Store) DeleteGroup(ctx context.Context, call Call, owner policies.AccountID, id policies.GroupID) (Result[struct{}], error) {
	return Result[struct{}]{}, notYet
}
func (s *Store) PutEnvironment(ctx context.Context, call Call, owner policies.AccountID, environment policies.Environment) (Result[policies.Environment], error) {
	return Result[policies.Environment]{}, notYet
}
func (s *Store) GetEnvironment(ctx context.Context, owner policies.AccountID, id policies.EnvironmentID) (Item[policies.Environment], error) {
	return Item[policies.Environment]{}, notYet
}
func (s *Store) ListEnvironments(ctx context.Context, owner policies.AccountID, page Page) (List[Item[policies.Environment]], error) {
	return List[Item[policies.Environment]]{}, notYet
}
func (s *Store) DeleteEnvironment(ctx context.Context, call Call, owner policies.AccountID, id policies.EnvironmentID) (Result[struct{}], error) {
	return Result[struct{}]{}, notYet
}
func (s *Store) TransferEnvironment(ctx context.Context, call Call, owner policies.AccountID, id policies.EnvironmentID, to policies.AccountID) (Result[policies.Environment], error) {
	return Result[policies.Environment]{}, notYet
}

// custom policies (the system's are in the catalogue in force)

// PolicyPatch changes the fields that are not nil.
type PolicyPatch struct {
	Name        *string
	Description *string
	Resources   *[]policies.ResourceType
	Actions     *[]policies.ActionName
}

func (s *Store) CreatePolicy(ctx context.Context, call Call, owner policies.AccountID, policy policies.Policy) (Result[policies.Policy], error) {
	return Result[policies.Policy]{}, notYet
}
func (s *Store) GetPolicy(ctx context.Context, owner policies.AccountID, id policies.PolicyID) (Item[policies.Policy], error) {
	return Item[policies.Policy]{}, notYet
}
func (s *Store) ListPolicies(ctx context.Context, owner policies.AccountID, page Page) (List[Item[policies.Policy]], error) {
	return List[Item[policies.Policy]]{}, notYet
}
func (s *Store) UpdatePolicy(ctx context.Context, call Call, owner policies.AccountID, id policies.PolicyID, patch PolicyPatch) (Result[policies.Policy], error) {
	return Result[policies.Policy]{}, notYet
}
func (s *Store) DeletePolicy(ctx context.Context, call Call, owner policies.AccountID, id policies.PolicyID, force bool) (Result[struct{}], error) {
	return Result[struct{}]{}, notYet
}

// PolicyInForce is the catalogue and Rego that decide now.
func (s *Store) PolicyInForce(ctx context.Context) (policies.PolicyInForce, policies.Revision, error) {
	return policies.PolicyInForce{}, 0, notYet
}

// roles

// RolePatch changes the fields that are not nil.
type RolePatch struct {
	Name              *string
	Description       *string
	Policies          *[]policies.PolicyID
	ReceiveLoadAlerts *bool
}

func (s *Store) CreateRole(ctx context.Context, call Call, owner policies.AccountID, role policies.Role) (Result[policies.Role], error) {
	return Result[policies.Role]{}, notYet
}
func (s *Store) GetRole(ctx context.Context, owner policies.AccountID, id policies.RoleID) (Item[policies.Role], error) {
	return Item[policies.Role]{}, notYet
}
func (s *Store) ListRoles(ctx context.Context, owner policies.AccountID, page Page) (List[Item[policies.Role]], error) {
	return List[Item[policies.Role]]{}, notYet
}
func (s *Store) UpdateRole(ctx context.Context, call Call, owner policies.AccountID, id policies.RoleID, patch RolePatch) (Result[policies.Role], error) {
	return Result[policies.Role]{}, notYet
}
func (s *Store) DeleteRole(ctx context.Context, call Call, owner policies.AccountID, id policies.RoleID, force bool) (Result[struct{}], error) {
	return Result[struct{}]{}, notYet
}

// CopyRole makes a role like id; name "" makes one from the role's.
func (s *Store) CopyRole(ctx context.Context, call Call, owner policies.AccountID, id policies.RoleID, name string) (Result[policies.Role], error) {
	return Result[policies.Role]{}, notYet
}

// MakeDefaultRoles makes the catalogue's example roles that owner lacks (by name,
// without case); the value is those made.
func (s *Store) MakeDefaultRoles(ctx context.Context, call Call, owner policies.AccountID) (Result[[]Item[policies.Role]], error) {
	return Result[[]Item[policies.Role]]{}, notYet
}

// members

// Invitation invites an address. Roles of grants are ids or names. DisplayName
// nil keeps the one of a record that is there. Grants nil restores the kept ones
// of an ended record; others replace them.
type Invitation struct {
	Email       string
	DisplayName *string
	Grants      []policies.Grant
}

// MemberSort orders members.
type MemberSort string

const (
	SortName        MemberSort = "name" // the default
	SortEmail       MemberSort = "email"
	SortStatus      MemberSort = "status"
	SortLastChanged MemberSort = "last_changed"
)

// MemberFilter chooses and orders members. Search is a part of email or display
// name, without case.
type MemberFilter struct {
	Search     string
	Statuses   []policies.Status
	Sort       MemberSort
	Descending bool
}

func (s *Store) Invite(ctx context.Context, call Call, owner policies.AccountID, invitation Invitation) (Result[policies.Member], error) {
	return Result[policies.Member]{}, notYet
}
func (s *Store) GetMember(ctx context.Context, owner policies.AccountID, id policies.CollaborationID) (Item[policies.Member], error) {
	return Item[policies.Member]{}, notYet
}
func (s *Store) ListMembers(ctx context.Context, owner policies.AccountID, filter MemberFilter, page Page) (List[Item[policies.Member]], error) {
	return List[Item[policies.Member]]{}, notYet
}

// UpdateMember sets the display name that the owner gave.
func (s *Store) UpdateMember(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID, displayName string) (Result[policies.Member], error) {
	return Result[policies.Member]{}, notYet
}
func (s *Store) RemoveMember(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID) (Result[struct{}], error) {
	return Result[struct{}]{}, notYet
}
func (s *Store) Suspend(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID) (Result[policies.Member], error) {
	return Result[policies.Member]{}, notYet
}
func (s *Store) Activate(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID) (Result[policies.Member], error) {
	return Result[policies.Member]{}, notYet
}
func (s *Store) Resend(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID) (Result[policies.Member], error) {
	return Result[policies.Member]{}, notYet
}
func (s *Store) Reinvite(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID) (Result[policies.Member], error) {
	return Result[policies.Member]{}, notYet
}

// CopyMember invites email with the live grants of id.
func (s *Store) CopyMember(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID, email string, displayName *string) (Result[policies.Member], error) {
	return Result[policies.Member]{}, notYet
}

// grants: roles are ids or names; the value is the member after the write.

func (s *Store) SetGrants(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID, grants []policies.Grant) (Result[policies.Member], error) {
	return Result[policies.Member]{}, notYet
}
func (s *Store) PutGrant(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID, grant policies.Grant) (Result[policies.Member], error) {
	return Result[policies.Member]{}, notYet
}
func (s *Store) DeleteGrant(ctx context.Context, call Call, owner policies.AccountID, id policies.CollaborationID, resource policies.Resource) (Result[policies.Member], error) {
	return Result[policies.Member]{}, notYet
}

// collaborations, as the member sees them

// Collaboration is a collaboration as its member sees it.
type Collaboration struct {
	ID          policies.CollaborationID
	Owner       policies.Account
	DisplayName string // the member's own
	Status      policies.Status
	LastChanged time.Time
	Items       []CollaborationItem // live grants, by resource
}

// CollaborationItem is one thing shared. Name is the environment's or the group's,
// empty for the categories and the account.
type CollaborationItem struct {
	Resource  policies.Resource
	Name      string
	Roles     []policies.Role // without descriptions of other things; sorted by name
	ExpiresAt *time.Time
}

func (s *Store) ListCollaborations(ctx context.Context, account policies.AccountID, page Page) (List[Item[Collaboration]], error) {
	return List[Item[Collaboration]]{}, notYet
}
func (s *Store) GetCollaboration(ctx context.Context, account policies.AccountID, id policies.CollaborationID) (Item[Collaboration], error) {
	return Item[Collaboration]{}, notYet
}
func (s *Store) UpdateCollaboration(ctx context.Context, call Call, account policies.AccountID, id policies.CollaborationID, displayName string) (Result[Collaboration], error) {
	return Result[Collaboration]{}, notYet
}
func (s *Store) Accept(ctx context.Context, call Call, account policies.AccountID, id policies.CollaborationID) (Result[Collaboration], error) {
	return Result[Collaboration]{}, notYet
}
func (s *Store) Reject(ctx context.Context, call Call, account policies.AccountID, id policies.CollaborationID) (Result[Collaboration], error) {
	return Result[Collaboration]{}, notYet
}
func (s *Store) Leave(ctx context.Context, call Call, account policies.AccountID, id policies.CollaborationID) (Result[Collaboration], error) {
	return Result[Collaboration]{}, notYet
}

// ImportError is why a document did not go in.
type ImportError struct {
	Line    int
	Account policies.AccountID // "" if it could not be read
	Errors  []policies.FieldError
}

// ImportReport is the outcome of an import. Revision is the last document's, the
// present one if none changed anything.
type ImportReport struct {
	Imported int // documents
	Grants   int // in them; one role on one resource for one member each
	Errors   []ImportError
	Revision policies.Revision
}

// Import puts documents in, each wholly or not at all. progress, if not nil, is
// called with the number of documents done. A bad document does not hinder others;
// the error is of the whole, such as an [UnavailableError]: documents before may be in.
func (s *Store) Import(ctx context.Context, call Call, documents iter.Seq[policies.DocumentLine], progress func(done int)) (ImportReport, error) {
	return ImportReport{}, notYet
}

// Export is the document of an account.
func (s *Store) Export(ctx context.Context, account policies.AccountID) (Item[policies.Document], error) {
	return Item[policies.Document]{}, notYet
}

// tokens

// Token is a service token without its secret.
type Token struct {
	ID        string
	Name      string
	Scopes    []policies.Scope
	ExpiresAt *time.Time
	CreatedAt time.Time
}

// CreateToken makes a service token; secret is shown only here.
func (s *Store) CreateToken(ctx context.Context, call Call, name string, scopes []policies.Scope, expires *time.Time) (token Result[Token], secret string, err error) {
	return Result[Token]{}, "", notYet
}
func (s *Store) ListTokens(ctx context.Context, page Page) (List[Item[Token]], error) {
	return List[Item[Token]]{}, notYet
}

// RevokeToken ends a token at once; idOrName.
func (s *Store) RevokeToken(ctx context.Context, call Call, id string) (Result[struct{}], error) {
	return Result[struct{}]{}, notYet
}

// audit

// AuditFilter chooses entries; zero values do not filter. Owner also finds what
// concerns the account itself.
type AuditFilter struct {
	Owner      policies.AccountID
	Since      time.Time
	Until      time.Time
	Actor      string // token id, or account id acted as
	Action     string
	Kind       policies.Kind
	ID         string // of the object
	Member     policies.CollaborationID
	Descending bool
}

// Entry is one object touched by one revision. Before and After are JSON, null
// when the object was not there; data of persons that was erased is left out.
type Entry struct {
	Revision policies.Revision
	Ordinal  int // within the revision, from 0
	Time     time.Time
	Actor    Actor
	Action   string // what was called, such as "grant.put"
	Kind     policies.Kind
	Owner    policies.AccountID
	ID       string
	Before   jsontext.Value
	After    jsontext.Value
}

func (s *Store) Audit(ctx context.Context, filter AuditFilter, page Page) (List[Entry], error) {
	return List[Entry]{}, notYet
}

// the log

// Head is the present revision and its hash.
func (s *Store) Head(ctx context.Context) (Header, error) { return Header{}, notYet }

// Changes are up to limit changes after a revision, in order.
func (s *Store) Changes(ctx context.Context, after policies.Revision, limit int) ([]policies.Change, error) {
	return nil, notYet
}

// Snapshot hands fn the whole platform at one revision, in the order that
// authz.Builder wants: policy_in_force, tokens, all accounts, then per owner its
// groups (parents first), environments, policies, roles, members, grants.
func (s *Store) Snapshot(ctx context.Context, fn func(header Header, objects iter.Seq2[policies.Object, error]) error) error {
	return notYet
}

// Listen calls notify soon after each commit, and at least once a second, until
// ctx ends, whose error it returns.
func (s *Store) Listen(ctx context.Context, notify func()) error { return notYet }
