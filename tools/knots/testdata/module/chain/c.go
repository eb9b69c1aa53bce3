package chain

const c = 1
