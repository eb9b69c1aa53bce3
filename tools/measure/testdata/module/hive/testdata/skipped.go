package broken because nobody reads it
