"""What partners are paid: terms and what they come to, balances, runs, statements and bank files. For the API and the command line."""
