package ledger

// Directories below Config.Dir (LEDGER §2).
const (
	dirLock     = "fileLock"
	dirProvider = "ledgerProvider"
	dirChains   = "chains"
	dirIndex    = "chains/index"
	dirState    = "stateLeveldb"

	dirBookkeeper  = "bookkeeper"
	dirConfHistory = "configHistory"
	dirHistory     = "historyLeveldb"
	dirPrivate     = "pvtdataStore"
)

// Keys of the ledgerProvider database (LEDGER §2.3):
//
//	"l" <channel> -> genesis block
//	"underConstructionLedgerKey" -> channel being created
const (
	keyLedgerPrefix      = "l"
	keyUnderConstruction = "underConstructionLedgerKey"
	keyLaterFormat       = "f" // of 2.x, never written here (LEDGER §23.1)
)
