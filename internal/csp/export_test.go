package csp

// VerifySlow is the general path of VerifyECDSA.
var VerifySlow = verifySlow
